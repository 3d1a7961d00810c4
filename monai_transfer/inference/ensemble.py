"""Several bundles as one: their probabilities are averaged, so they must agree in everything else."""

from dataclasses import replace

from monai_transfer.bundle.reading import InferenceBundle
from monai_transfer.errors import UserError


def require_same(one: InferenceBundle, other: InferenceBundle) -> None:
    """See that two members of an ensemble differ in their weights only.

    Raises:
        UserError: naming what else they differ in.
    """
    for what, equal in (
        ("preprocessing", one.recipe == other.recipe),
        ("inferer", one.window == other.window),
        ("postprocessing", replace(one.decision, after=()) == replace(other.decision, after=())),
        ("labels", one.label_names == other.label_names),
    ):
        if not equal:
            raise UserError(
                f"{other.root} has another {what} than {one.root}; the bundles of an ensemble may differ in weights "
                "only."
            )
