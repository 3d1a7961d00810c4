"""The networks that are trained and compared on one pair of domains, each a bundle of its own."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from monai_transfer.adaptation import SelfTraining
from monai_transfer.bundle.config_parts import class_names
from monai_transfer.bundle.methods import method_definitions
from monai_transfer.errors import UserError
from monai_transfer.transforms.presets import Augmentation

if TYPE_CHECKING:
    from monai_transfer.bundle.plan import Plan

AUGMENTATION = "Augmentation"
"""The part of a name that asks for modality-breaking augmentation of the source."""

RANDOM = "RandomIntensity"
"""The part of a name that asks for random intensities on the source's labels too, on top of the augmentation."""

TRANSFER = "IntensityTransfer"
"""The part of a name that asks for the target's intensities as well, as soon as they can be measured."""

STRETCH = "Stretch"
"""The part of a name that asks for source bodies of other builds."""

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

PAINTING: dict[str, dict[str, Any]] = {
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
    f"{DEFAULT}-{STRETCH}": {"stretched": False},
    f"{DEFAULT}-{SelfTraining.__name__}": {"methods": ()},
}
"""The bundle's own recipe, whole, and without each of its parts."""


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
        stretched: whether the source's bodies are stretched, whole and in parts; ``None`` keeps the bundle's own.
        labels_of: whose labels it learns from: the sources', those of the target cases that may be learnt too
            (``"all"``), or the target's alone.
    """

    name: str
    methods: tuple[dict[str, Any], ...] | None = None
    augmentation: Augmentation | None = None
    painting: Literal["none", "random", "measured", "target"] | None = None
    stretched: bool | None = None
    labels_of: Literal["sources", "all", "target"] = "all"

    @classmethod
    def named(cls, name: str) -> "Arm":
        """The arm of a name: one of ``RECIPES``, or methods, one of ``APPEARANCES`` and ``Stretch``, joined by ``+``.

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
        special = {word.lower(): word for word in (*APPEARANCES, RANDOM, TRANSFER, STRETCH)}
        methods = [part for part in parts if part.lower() not in special]
        if "" in parts or DEFAULT.lower() in lower:
            raise UserError(f"--methods {name} is not possible; join methods by +, such as {AUGMENTATION}+MeanTeacher.")
        words = [word for key, word in special.items() if key in lower]
        augmentations = {APPEARANCES.get(word, "modality") for word in words if word != STRETCH}
        if len(augmentations) > 1:
            raise UserError(f"--methods {name} asks for more than one augmentation ({', '.join(words)}); name one.")
        definitions = tuple(method_definitions(methods) or [])
        return cls(
            "+".join([*words, *class_names(definitions)]) or "SourceOnly",
            definitions,
            next(iter(augmentations), "standard"),
            painting="target" if TRANSFER in words else "random" if RANDOM in words else "none",
            stretched=STRETCH in words,
        )

    def planned(self, plan: "Plan") -> "Plan":
        """The plan as far as this arm may know it: only who sees the target's images knows how large its bodies are."""
        return plan if self.labels_of == "all" else replace(plan, body_scale=1.0)


SOURCE_ONLY = Arm("source_only", (), "standard", painting="none", stretched=False, labels_of="sources")
"""The floor."""

ORACLE = Arm("oracle", (), "standard", painting="none", stretched=False, labels_of="target")
"""The ceiling."""


def method_names(train: Mapping[str, Any]) -> tuple[str, ...]:
    """What a bundle's ``train.json`` learns by: its augmentation, and the class names of its adaptation methods."""
    used = {word: train["source_augmentation"] == augmentation for word, augmentation in APPEARANCES.items()}
    used |= {RANDOM: train["intensities"] is not None, TRANSFER: train["measure_from"] is not None}
    return (*(word for word, is_used in used.items() if is_used), *class_names(train["methods"]["modules"]))


@dataclass(frozen=True)
class KeptStart:
    """How much of a start that ignores contrast a network keeps that learns from another modality than it is for.

    Attributes:
        layerwise_decay: factor of the learning rate from level to level towards the input.
        share: of the start in the pretrained weights that are saved; the rest is what was learnt.

    Example:
        >>> KeptStart(layerwise_decay=0.5, share=0.5).describe()
        'layer-wise decay 0.5; its weights end 50 % of the way back to the start'
    """

    layerwise_decay: float
    share: float

    def describe(self) -> str:
        """In words."""
        back = f"its weights end {100 * self.share:.0f} % of the way back to the start"
        return f"layer-wise decay {self.layerwise_decay:g}; {back}"


KEPT_STARTS: Mapping[str, KeptStart] = {"shapes:unet": KeptStart(layerwise_decay=0.5, share=0.5)}
"""SPEC -> how a source-only network keeps to it, for weights that know no modality. Trained like one from fresh weights
it learns the source's own contrast and is worse on another than a fresh network (docs/pretraining.md). Other weights
stand here as soon as they are measured."""


def kept_to_start(train: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """The ``train.json`` of a source-only network, changed by what its start has in :data:`KEPT_STARTS`.

    Example:
        >>> kept_to_start({"seed": 0}, "")
        {'seed': 0}
    """
    kept = KEPT_STARTS.get(weights)
    if kept is None:
        return dict(train)
    changed = copy.deepcopy(dict(train))
    changed["imports"].append("$from monai_transfer.finetuning import parameter_groups")
    changed |= {"layerwise_decay": kept.layerwise_decay, "head_factor": 1.0, "start_share": kept.share}
    changed["optimizer"]["params"] = (
        "$parameter_groups(@network, learning_rate=@learning_rate, layerwise_decay=@layerwise_decay, "
        "head_factor=@head_factor)"
    )
    handlers = changed["train"]["handlers"]
    # before the network is saved, and never while it is trained or watched
    handlers.insert(
        next(place for place, handler in enumerate(handlers) if handler["_target_"] == "CheckpointSaver"),
        {
            "_target_": "monai_transfer.finetuning.AverageWithStart",
            "averaged_network": "@averaged_network",
            "report": "@load_report",
            "share": "@start_share",
        },
    )
    return changed


def describe_start(weights: str) -> str:
    """What the networks of a comparison start from, in words.

    Args:
        weights: SPEC; empty for fresh weights.

    Example:
        >>> describe_start("model.pt")
        'model.pt, the same for every arm'
    """
    if not weights:
        return "fresh weights"
    kept = KEPT_STARTS.get(weights)
    return f"{weights}, the same for every arm" + ("" if kept is None else f"; source-only: {kept.describe()}")
