"""Keeps source-only's weights in the bundle where the adapted network looks worse, without target labels."""

import math
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_transfer.data import CaseDataset
from monai_transfer.data.volumes import read_volume
from monai_transfer.engines import read_history
from monai_transfer.evaluation import Choice, LabelFreeScores, SourceSizes, choose_network, label_free_scores
from monai_transfer.inference import InferenceBundle, read_bundle
from monai_transfer.inference.writing import replacing
from monai_transfer.workflows.bundle import BundleFolder

TARGET_VOLUMES = 3
"""So many target training volumes are looked at."""

SOURCE_LABELS = 12
"""So many label maps of the source tell the sizes."""

_OVERLAP = 0.25


def choose_weights(
    adapted: BundleFolder, source_only: BundleFolder, source: CaseDataset, target: CaseDataset, *, device: torch.device
) -> Choice:
    """Compare two trained bundles on a few target training images; their labels, if there are any, are not read.

    Args:
        adapted: the adapted bundle.
        source_only: the floor, with the same preprocessing.
        source: labelled cases.
        target: target training cases.
        device: where.
    """
    sizes = source_sizes(source)
    read = {arm: read_bundle(bundle.root, device=device) for arm, bundle in _named(adapted, source_only).items()}
    items = [{"image": item["image"]} for item in _spread(target.items(), TARGET_VOLUMES)]
    prepared = [read["adapted"].preprocessing(item)[read["adapted"].image_key] for item in items]
    images = [torch.as_tensor(image)[None].to(device) for image in prepared]
    spacing = [float(step) for step in adapted.read("train")["spacing"]]
    validation = {arm: _source_validation(bundle) for arm, bundle in _named(adapted, source_only).items()}
    scores = {
        arm: _scores(bundle, images, voxel_ml=math.prod(spacing) / 1000, sizes=sizes, validation=validation[arm])
        for arm, bundle in read.items()
    }
    return choose_network(scores["adapted"], scores["source_only"], sizes)


def keep_source_only(adapted: BundleFolder, source_only: BundleFolder) -> None:
    """Give the adapted bundle source-only's weights; its own stay beside them as ``models/adapted.pt``."""
    shutil.copy2(adapted.weights, adapted.weights.with_name("adapted.pt"))
    with replacing(adapted.weights) as file:
        file.write(source_only.weights.read_bytes())


def source_sizes(source: CaseDataset) -> SourceSizes:
    """Volumes of the labels of at most twelve cases.

    Raises:
        ValueError: when no case has a label.
    """
    foregrounds: list[float] = []
    per_label: dict[int, list[float]] = {}
    for case in _spread(source.labelled.cases, SOURCE_LABELS):
        if case.label is None:
            continue
        volume = read_volume(case.label)
        voxel_ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
        values, counts = np.unique(np.asarray(volume.voxels).astype(np.int64), return_counts=True)
        found = {int(v): float(n) * voxel_ml for v, n in zip(values, counts, strict=True) if v > 0}
        foregrounds.append(sum(found.values()))
        for label, volume_ml in found.items():
            per_label.setdefault(label, []).append(volume_ml)
    if not foregrounds:
        raise ValueError("the source has no labels")
    medians = {label: float(np.median(volumes)) for label, volumes in sorted(per_label.items())}
    return SourceSizes((min(foregrounds), max(foregrounds)), medians)


def _named(adapted: BundleFolder, source_only: BundleFolder) -> dict[str, BundleFolder]:
    return {"adapted": adapted, "source_only": source_only}


def _scores(
    bundle: InferenceBundle,
    images: Sequence[Tensor],
    *,
    voxel_ml: float,
    sizes: SourceSizes,
    validation: float | None,
) -> LabelFreeScores:
    roi = [size if size > 0 else None for size in bundle.window.roi_size]
    inferer = SlidingWindowInferer(roi, overlap=_OVERLAP, mode="gaussian", padding_mode="replicate")

    def predict(image: Tensor) -> Tensor:
        logits: Tensor = inferer(image, bundle.network)
        return logits

    return label_free_scores(predict, images, voxel_ml=voxel_ml, sizes=sizes, source_validation=validation)


def _source_validation(bundle: BundleFolder) -> float | None:
    """The last mean Dice on held source cases that the training recorded."""
    path = bundle.root / "eval" / "history.jsonl"
    lines = read_history(path) if path.is_file() else []
    values = [line["metrics"]["val_mean_dice"] for line in lines if "val_mean_dice" in line["metrics"]]
    return float(values[-1]) if values else None


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` items at even distances."""
    if len(items) <= most:
        return list(items)
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)]
