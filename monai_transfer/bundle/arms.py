"""The networks that are trained and compared on one pair of domains, each a bundle of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from monai_transfer.adaptation import SelfTraining
from monai_transfer.bundle.configs import fill_adaptation
from monai_transfer.bundle.domains import LABELLED_TARGET, Domains
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.methods import method_definitions
from monai_transfer.bundle.plan import Plan
from monai_transfer.errors import UserError
from monai_transfer.transforms.presets import Augmentation

AUGMENTATION = "Augmentation"
"""The part of a name that asks for modality-breaking augmentation of the source."""

RANDOM = "RandomIntensity"
"""The part of a name that asks for random intensities on the source's labels too, on top of the augmentation."""

TRANSFER = "IntensityTransfer"
"""The part of a name that asks for the target's intensities as well, as soon as they can be measured."""

DEFAULT = "Default"
"""The bundle's own recipe."""

APPEARANCES: dict[str, Augmentation] = {
    AUGMENTATION: "modality",
    "GIN": "gin",
    "NnUNetIntensity": "nnunet",
    "FourierStyle": "fourier",
    "HistogramMatch": "histogram",
}
"""The parts of a name that ask for an augmentation of the source's appearance."""

_PAINTING: dict[str, dict[str, Any]] = {
    "none": {"intensities": None, "measure_from": None},
    "random": {"measure_from": None},
    "measured": {"intensities#unknown": 0.0},
    "target": {},
}
"""Changes of the bundle for each way to paint."""

RECIPES: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    f"{DEFAULT}-{AUGMENTATION}": {"augmentation": "standard"},
    f"{DEFAULT}-{RANDOM}": {"painting": "measured"},
    f"{DEFAULT}-{TRANSFER}": {"painting": "random"},
    f"{DEFAULT}-{SelfTraining.__name__}": {"methods": ()},
}
"""The bundle's own recipe, whole and without each of its parts."""


@dataclass(frozen=True)
class Arm:
    """What one training learns from, and how.

    Attributes:
        name: of the arm, for folders and reports.
        methods: definitions of adaptation methods; ``None`` keeps the bundle's own.
        augmentation: of the source's appearance, see :func:`~monai_transfer.transforms.preset`; ``None`` keeps the
            bundle's own.
        painting: whether the source's labels are painted with no other intensities, with random ones, with the target's
            (random ones until they are measured) or with measured ones alone; ``None`` keeps the bundle's own.
        labels_of: whose labels it learns from: the sources', those of the target cases that may be learnt too
            (``"all"``), or the target's alone.
    """

    name: str
    methods: tuple[dict[str, Any], ...] | None = None
    augmentation: Augmentation | None = None
    painting: Literal["none", "random", "measured", "target"] | None = None
    labels_of: Literal["sources", "all", "target"] = "all"

    @classmethod
    def named(cls, name: str) -> "Arm":
        """The arm of a name: one of ``RECIPES``, or methods joined by ``+``, with one of ``APPEARANCES`` among them.

        ``IntensityTransfer`` includes ``RandomIntensity``, and that ``Augmentation``; a method whose name stands
        without any of them is trained with the standard augmentation alone.

        Raises:
            UserError: when a part of the name is not a method, or two ask for different augmentations.
        """
        recipe = next((recipe for recipe in RECIPES if recipe.lower() == name.strip().lower()), None)
        if recipe is not None:
            return cls(recipe, **RECIPES[recipe])
        parts = [part.strip() for part in name.split("+")]
        lower = [part.lower() for part in parts]
        special = {word.lower(): word for word in (*APPEARANCES, RANDOM, TRANSFER)}
        methods = [part for part in parts if part.lower() not in special]
        if "" in parts or DEFAULT.lower() in lower:
            raise UserError(f"--methods {name} is not possible; join methods by +, such as {AUGMENTATION}+MeanTeacher.")
        words = [word for key, word in special.items() if key in lower]
        augmentations = {APPEARANCES.get(word, "modality") for word in words}
        if len(augmentations) > 1:
            raise UserError(f"--methods {name} asks for more than one augmentation ({', '.join(words)}); name one.")
        definitions = tuple(method_definitions(methods) or [])
        return cls(
            "+".join([*words, *_titles(definitions)]) or "SourceOnly",
            definitions,
            next(iter(augmentations), "standard"),
            painting="target" if TRANSFER in words else "random" if RANDOM in words else "none",
        )


SOURCE_ONLY = Arm("source_only", (), "standard", painting="none", labels_of="sources")
"""The floor."""

ORACLE = Arm("oracle", (), "standard", painting="none", labels_of="target")
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
    if title:
        changes["title"] = title
    if arm.augmentation is not None:
        changes["source_augmentation"] = arm.augmentation
    if arm.painting is not None:
        changes |= _PAINTING[arm.painting]
    if arm.methods is not None:
        changes["methods#modules"] = list(arm.methods)
    with BundleFolder.making("domain_adaptation", root, overwrite=overwrite) as bundle:
        fill_adaptation(bundle, plan, channels=len(domains.source.channel_names))
        bundle.change("train", changes)
        if arm.labels_of != "target":
            bundle.change("train", _further(bundle, domains, plan, target_labels=arm.labels_of == "all"))
        bundle.change("train", _spared(bundle))
    return bundle


def _further(bundle: BundleFolder, domains: Domains, plan: Plan, *, target_labels: bool) -> dict[str, Any]:
    """The labelled domains beside the first source: further sources, and the target cases whose labels are learnt.

    The sources share a weight of 1; a labelled part of the target has a weight of its own.
    """
    train = bundle.read("train")
    parts = {name: cases for name, cases in domains.further.items() if target_labels or name != LABELLED_TARGET}
    modalities = iter(plan.further_modalities)
    sources = 1 + len(domains.further_sources)
    changes: dict[str, Any] = {"domain_weights#source": 1 / sources} if sources > 1 else {}
    for name, cases in parts.items():
        if name == LABELLED_TARGET:
            preprocessing = {**train["train"]["target_preprocessing"], "labelled": True, "pseudo_labels": None}
        else:
            preprocessing = {**train["train"]["preprocessing"], "modality": next(modalities)}
        changes[name] = {
            "dir": str(cases.root.resolve()),
            "cases": list(cases.names),
            "items": f"$read_dataset(@{name}#dir).select(@{name}#cases).labelled.items()",
            "preprocessing": preprocessing,
            "dataset": {
                **train["train"]["dataset"],
                "data": f"@{name}#items",
                "transform": f"@{name}#preprocessing",
            },
        }
        changes[f"train#dataloader#datasets#{name}"] = f"@{name}#dataset"
        changes[f"domain_weights#{name}"] = 1.0 if name == LABELLED_TARGET else 1 / sources
    return changes


def _spared(bundle: BundleFolder) -> dict[str, Any]:
    """What none of the bundle's methods needs: pseudo-labels of the target, or its images."""
    train = bundle.read("train")
    titles = _titles(train["methods"]["modules"])
    changes: dict[str, Any] = {} if SelfTraining.__name__ in titles else {"label_from": None, "pseudo_labels": None}
    if titles:
        return changes
    datasets = {name: data for name, data in train["train"]["dataloader"]["datasets"].items() if name != "target"}
    return {**changes, "train#dataloader#datasets": datasets}


def method_names(bundle: BundleFolder) -> tuple[str, ...]:
    """What a bundle learns by: its augmentation, and the class names of its adaptation methods."""
    train = bundle.read("train")
    used = {word: train["source_augmentation"] == augmentation for word, augmentation in APPEARANCES.items()}
    used |= {RANDOM: train["intensities"] is not None, TRANSFER: train["measure_from"] is not None}
    return (*(word for word, is_used in used.items() if is_used), *_titles(train["methods"]["modules"]))


def _titles(definitions: Sequence[dict[str, Any]]) -> list[str]:
    """Class names of adaptation methods."""
    return [str(definition["_target_"]).rpartition(".")[2] for definition in definitions]


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
        raise UserError(f"{domains.target.root} has no labels to train the oracle on: add some, or give --no-oracle.")
    return {
        "source_dir": str(domains.target.root.resolve()),
        "source_cases": list(labelled.names),
        "source_modality": plan.target_modality,
        "validation_share": 0.0,
    }
