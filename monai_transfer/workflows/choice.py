"""Keeps source-only's weights in the bundle where the adapted network looks worse, without target labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_transfer.bundle.facts import ATLAS_FILE
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.reading import read_bundle
from monai_transfer.datasets import CaseDataset
from monai_transfer.datasets.cases import spread
from monai_transfer.engines import read_history
from monai_transfer.evaluation import Choice, LabelFreeScores, SourceSizes, choose_network, label_free_scores
from monai_transfer.evaluation.selection import Predictor
from monai_transfer.files import copy_file
from monai_transfer.inference.whole_image import over_whole_image, whole_image
from monai_transfer.volumes.reading import read_volume

TARGET_VOLUMES = 3
"""So many target training volumes are looked at."""

SOURCE_LABELS = 12
"""So many label maps of the source tell the sizes."""

_ADAPTED = "adapted.pt"
"""Weights of an adapted network in whose place the bundle has source-only's."""

_CLEARLY_BETTER = 0.02
"""In estimated Dice: estimates are a few hundredths off, but those of two networks of one pair alike."""

_AT_HOME = 0.1
"""What source-only may lose, in estimated Dice, from held source cases to the target, for its estimate to be believed:
0.03 and 0.08 between scans of one kind and of two sites; 0.14 to 0.44 between modalities, where it is too high."""


class LabelFreeScorer:
    """Scores networks of one pair of domains on a few target training images; their labels, if any, are not read.

    Args:
        bundle: whose preprocessing is used.
        plan: the choices of its training, for the working grid and the device.
        source: labelled cases.
        target: target training cases.
    """

    def __init__(self, bundle: BundleFolder, plan: Plan, source: CaseDataset, target: CaseDataset) -> None:
        self.device = device = plan.device
        self.sizes = source_sizes(source, plan.label_values, plan.body_scale)
        read = read_bundle(bundle.root, device=device)
        chosen = spread(target.cases, TARGET_VOLUMES)
        self.images = [whole_image(read, case.images, target.reading)[None] for case in chosen]
        self.voxel_ml = math.prod(plan.spacing) / 1000

    def predictor(self, bundle: BundleFolder, weights: Path | None = None) -> Predictor:
        """A bundle's network over whole images; ``weights`` is a checkpoint in place of the bundle's own."""
        read = read_bundle(bundle.root, device=self.device, weights=weights)
        return over_whole_image(read.network, read.window)

    def scores(self, bundle: BundleFolder, weights: Path | None = None, *, epoch: int | None = None) -> LabelFreeScores:
        """Label-free scores of a bundle's network.

        Args:
            bundle: the bundle.
            weights: a checkpoint in place of the bundle's own weights.
            epoch: the epoch of that checkpoint; the last by default.
        """
        validation = _source_validation(bundle, epoch)
        return label_free_scores(
            self.predictor(bundle, weights),
            self.images,
            voxel_ml=self.voxel_ml,
            sizes=self.sizes,
            source_validation=validation,
        )


def choose_weights(adapted: BundleFolder, source_only: BundleFolder, scorer: LabelFreeScorer) -> Choice:
    """Compare two trained bundles of the same preprocessing; labels of the target, if there are any, are not read."""
    return choose_network(scorer.scores(adapted), scorer.scores(source_only), scorer.sizes)


def prefer_estimated(choice: Choice, adapted: Mapping[str, float], source_only: Mapping[str, float]) -> Choice:
    """Keep source-only, too, where it is at home in the target and its labels are estimated to be clearly better.

    Args:
        choice: by how the predictions look, and how good source-only is on held source cases.
        adapted: name of a label -> estimated Dice.
        source_only: the same; nothing is preferred where either holds nothing.
    """
    if choice.kept == "source_only" or not adapted or not source_only:
        return choice
    names = adapted.keys() | source_only.keys()
    ours, floor = (sum(each.values()) / len(names) for each in (adapted, source_only))
    told = f"the Dice of the adapted network's labels is estimated at {ours:.2f}, of source-only's at {floor:.2f}"
    at_home = floor >= (choice.source_only.source_validation or math.inf) - _AT_HOME
    if at_home and floor > ours + _CLEARLY_BETTER:
        return replace(choice, kept="source_only", reason=told)
    return replace(choice, reason=f"{choice.reason}; {told}")


def keep_source_only(adapted: BundleFolder, source_only: BundleFolder) -> None:
    """Give the adapted bundle source-only's weights; its own stay beside them as ``models/adapted.pt``.

    Source-only's labels are not corrected by anatomy: the atlas becomes ``models/adapted_anatomy.safetensors``.
    """
    copy_file(adapted.weights, adapted.weights.with_name(_ADAPTED))
    copy_file(source_only.weights, adapted.weights)
    atlas = adapted.weights.with_name(ATLAS_FILE)
    if atlas.is_file():
        atlas.replace(atlas.with_name(f"adapted_{ATLAS_FILE}"))


def put_back_adapted(bundle: BundleFolder) -> None:
    """Undo :func:`keep_source_only`, if it was done."""
    own, atlas = (bundle.weights.with_name(name) for name in (_ADAPTED, f"adapted_{ATLAS_FILE}"))
    if own.is_file():
        copy_file(own, bundle.weights)
    if atlas.is_file():
        atlas.replace(atlas.with_name(ATLAS_FILE))


def source_sizes(
    source: CaseDataset, label_values: Sequence[int] | None = None, body_scale: float = 1.0
) -> SourceSizes:
    """Volumes of the labels of at most twelve cases.

    Args:
        source: labelled cases.
        label_values: the value of each of the network's outputs, where these are not the values themselves.
        body_scale: how many times as large the bodies are that these sizes are for.

    Raises:
        ValueError: when no case has a label.
    """
    foregrounds: list[float] = []
    per_label: dict[int, list[float]] = {}
    for case in spread(source.labelled.cases, SOURCE_LABELS):
        if case.label is None:
            continue
        volume = read_volume(case.label, reading=source.reading)
        values, counts = np.unique(volume.array.astype(np.int64), return_counts=True)
        voxel_ml = volume.voxel_ml * body_scale**3
        found = {int(v): float(n) * voxel_ml for v, n in zip(values, counts, strict=True) if v > 0}
        foregrounds.append(sum(found.values()))
        for label, volume_ml in found.items():
            per_label.setdefault(label, []).append(volume_ml)
    if not foregrounds:
        raise ValueError("the source has no labels")
    channels = {value: channel for channel, value in enumerate(label_values or ())}
    medians = {channels.get(label, label): float(np.median(volumes)) for label, volumes in sorted(per_label.items())}
    return SourceSizes((min(foregrounds), max(foregrounds)), medians)


def _source_validation(bundle: BundleFolder, epoch: int | None) -> float | None:
    """The last mean Dice on held source cases that the training recorded, up to an epoch."""
    path = bundle.root / "eval" / "history.jsonl"
    lines = read_history(path) if path.is_file() else []
    known = [line for line in lines if "val_mean_dice" in line["metrics"] and (epoch is None or line["epoch"] <= epoch)]
    return float(known[-1]["metrics"]["val_mean_dice"]) if known else None
