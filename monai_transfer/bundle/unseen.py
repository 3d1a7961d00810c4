"""A start that ignores contrast, and a training on one modality that has to keep that for another one."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAVING = "CheckpointSaver"


@dataclass(frozen=True)
class KeptStart:
    """How much of its start a network keeps that learns from a modality other than the one it is for.

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
    changed = copy.deepcopy(dict(train))
    kept = KEPT_STARTS.get(weights)
    if kept is None:
        return changed
    changed["imports"].append("$from monai_transfer.finetuning import parameter_groups")
    changed |= {"layerwise_decay": kept.layerwise_decay, "head_factor": 1.0, "start_share": kept.share}
    changed["optimizer"]["params"] = (
        "$parameter_groups(@network, learning_rate=@learning_rate, layerwise_decay=@layerwise_decay, "
        "head_factor=@head_factor)"
    )
    handlers = changed["train"]["handlers"]
    # before the network is saved, and never while it is trained or watched
    handlers.insert(
        next(place for place, handler in enumerate(handlers) if handler["_target_"] == _SAVING),
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
