"""The networks that are trained and compared on one pair of domains, each a bundle of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from monai_transfer.errors import UserError
from monai_transfer.workflows.bundle import BundleFolder
from monai_transfer.workflows.domains import Domains
from monai_transfer.workflows.filling import fill_adaptation
from monai_transfer.workflows.methods import method_definitions
from monai_transfer.workflows.plan import Plan

AUGMENTATION = "Augmentation"
"""The part of a name that asks for modality-breaking augmentation of the source."""

TRANSFER = "IntensityTransfer"
"""The part of a name that asks for the target's intensities on the source's labels, on top of the augmentation."""

DEFAULT = "Default"
"""The bundle's own recipe."""


@dataclass(frozen=True)
class Arm:
    """What one training learns from, and how.

    Attributes:
        name: of the arm, for folders and reports.
        methods: definitions of adaptation methods; ``None`` keeps the bundle's own.
        augmentation: of the source's appearance (``standard`` or ``modality``); ``None`` keeps the bundle's own.
        transfer: whether the source is painted with the target's intensities; ``None`` keeps the bundle's own.
        labels_of: the domain whose labels it learns from.
    """

    name: str
    methods: tuple[dict[str, Any], ...] | None = None
    augmentation: Literal["standard", "modality"] | None = None
    transfer: bool | None = None
    labels_of: Literal["source", "target"] = "source"

    @classmethod
    def named(cls, name: str) -> "Arm":
        """The arm of a name: methods joined by ``+``, with ``Augmentation`` among them, or ``Default``.

        ``IntensityTransfer`` includes ``Augmentation``; a method whose name stands without either is trained with the
        standard augmentation alone.

        Raises:
            UserError: when a part of the name is no method.
        """
        parts = [part.strip() for part in name.split("+")]
        if [part.lower() for part in parts] == [DEFAULT.lower()]:
            return cls(DEFAULT)
        special = {word.lower(): word for word in (AUGMENTATION, TRANSFER)}
        methods = [part for part in parts if part.lower() not in special]
        if "" in parts or any(part.lower() == DEFAULT.lower() for part in parts):
            raise UserError(f"--methods {name} is not possible; join methods by +, such as {AUGMENTATION}+MeanTeacher.")
        appearance = {special[part.lower()] for part in parts if part.lower() in special}
        definitions = tuple(method_definitions(methods) or [])
        titles = [str(definition["_target_"]).rpartition(".")[2] for definition in definitions]
        words = [word for word in (AUGMENTATION, TRANSFER) if word in appearance]
        return cls(
            "+".join([*words, *titles]) or "SourceOnly",
            definitions,
            "modality" if appearance else "standard",
            transfer=TRANSFER in appearance,
        )


SOURCE_ONLY = Arm("source_only", (), "standard", transfer=False)
"""The floor."""

ORACLE = Arm("oracle", (), "standard", transfer=False, labels_of="target")
"""The ceiling."""


def make_arm(
    domains: Domains, plan: Plan, root: str | Path, arm: Arm, *, overwrite: bool = False, title: str = ""
) -> BundleFolder:
    """A copy of the bundle ``domain_adaptation`` that is ready to train one arm.

    Args:
        domains: the cases.
        plan: the choices.
        root: the bundle folder to make.
        arm: what to train.
        overwrite: whether to write into a folder that holds something.
        title: stands beside the progress bar.

    Raises:
        UserError: when the folder is taken, or the oracle has no target labels.
    """
    changes = _cases(domains)
    if arm.labels_of == "target":
        changes |= _target_as_source(domains, plan)
    bundle = BundleFolder.create("domain_adaptation", root, overwrite=overwrite)
    fill_adaptation(bundle, plan, channels=len(domains.source.channel_names))
    if title:
        changes["title"] = title
    if arm.augmentation is not None:
        changes["source_augmentation"] = arm.augmentation
    if arm.transfer is False:
        changes["transfer_start"] = None
    if arm.methods is not None:
        changes["methods#modules"] = list(arm.methods)
    bundle.change("train", changes)
    if not bundle.read("train")["methods"]["modules"]:  # nothing that the target would be loaded for
        bundle.change("train", {"train#dataloader#datasets": {"source": "@train#dataset"}})
    return bundle


def method_names(bundle: BundleFolder) -> tuple[str, ...]:
    """What a bundle learns by: its augmentation, and the class names of its adaptation methods."""
    train = bundle.read("train")
    appearance = {
        AUGMENTATION: train["source_augmentation"] == "modality",
        TRANSFER: train["transfer_start"] is not None,
    }
    definitions: Sequence[dict[str, Any]] = train["methods"]["modules"]
    titles = [str(definition["_target_"]).rpartition(".")[2] for definition in definitions]
    return (*(name for name, used in appearance.items() if used), *titles)


def _cases(domains: Domains) -> dict[str, Any]:
    return {
        "source_dir": str(domains.source.root.resolve()),
        "target_dir": str(domains.target.root.resolve()),
        "source_cases": list(domains.source.names),
        "target_cases": list(domains.target.names),
        "validation_share": 0.2 if len(domains.source) > 2 else 0.0,
    }


def _target_as_source(domains: Domains, plan: Plan) -> dict[str, Any]:
    labelled = domains.target.labelled
    if not labelled.cases:
        raise UserError(f"{domains.target.root} has no labels to train the oracle on; leave the oracle away.")
    return {
        "source_dir": str(domains.target.root.resolve()),
        "source_cases": list(labelled.names),
        "source_modality": plan.target_modality,
        "validation_share": 0.0,
    }
