"""The score of one label in one case."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects

from monai_transfer.evaluation.surfaces import (
    average_surface_distance,
    hausdorff95,
    surface_dice,
    surface_distances,
    voxel_steps,
)

METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "precision", "recall")

Outcome = Literal["scored", "missed", "invented", "absent"]


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How well one label of one case was segmented, on the native grid.

    An undefined figure is NaN and enters no mean:

    ========  ==========  ====  ====  ============  ===  =========  ======
    truth     prediction  Dice  IoU   HD95, ASSD    NSD  precision  recall
    ========  ==========  ====  ====  ============  ===  =========  ======
    present   present     all figures are defined (``scored``)
    present   empty       0     0     NaN           0    NaN        0       (``missed``)
    empty     present     0     0     NaN           0    0          NaN     (``invented``)
    empty     empty       all figures are NaN (``absent``)
    ========  ==========  ====  ====  ============  ===  =========  ======

    A distance to nothing has no honest number, so missed and invented labels are counted and shown beside the
    distances, and pull down Dice, IoU and NSD.

    Example:
        >>> truth = np.zeros((8, 8, 8), np.uint8)
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> score = score_case(truth, truth, spacing=(1.0, 1.0, 2.0), label_names={1: "liver"})[0]
        >>> score.label, score.dice, score.hd95_mm
        ('liver', 1.0, 0.0)
    """

    case: str
    label: str
    dice: float = nan
    iou: float = nan
    hd95_mm: float = nan
    assd_mm: float = nan
    nsd: float = nan
    precision: float = nan
    recall: float = nan
    volume_ml_predicted: float
    volume_ml_true: float

    @property
    def outcome(self) -> Outcome:
        """Say whether the label is in both maps, one or neither."""
        if self.volume_ml_true > 0:
            return "scored" if self.volume_ml_predicted > 0 else "missed"
        return "invented" if self.volume_ml_predicted > 0 else "absent"


def score_case(
    prediction: NDArray[Any],
    label: NDArray[Any],
    *,
    spacing: ArrayLike,
    label_names: Mapping[int, str],
    nsd_tolerance_mm: float = 2.0,
    case: str = "",
) -> list[LabelScore]:
    """Score a label map against the truth, one row per label.

    Args:
        prediction: label map of shape (H, W[, D]), integers, on the native grid.
        label: the true label map, of the same shape.
        spacing: voxel sizes in mm, or the affine of the grid, which sheared grids need.
        label_names: value → name of the labels to score, background (0) left aside. Empty: every value in the truth
            or the prediction.
        nsd_tolerance_mm: how far apart surfaces may lie and still count as equal in NSD.
        case: name of the case, for the rows.

    Raises:
        ValueError: when the shapes differ.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    predicted, true = _as_integers(prediction), _as_integers(label)
    voxel_ml = abs(float(np.linalg.det(voxel_steps(spacing, label.ndim)))) / 1000
    names = {value: name for value, name in label_names.items() if value != 0} or generic_names(predicted, true)
    # one pass finds the boxes of all labels; each is then measured in its own box alone
    predicted_boxes, true_boxes = find_objects(predicted), find_objects(true)
    rows = []
    for value, name in names.items():
        box = _joint_box(_box_of(predicted_boxes, value), _box_of(true_boxes, value), label.ndim)
        masks = predicted[box] == value, true[box] == value
        figures = _figures(*masks, spacing=spacing, nsd_tolerance_mm=nsd_tolerance_mm)
        volumes = [float(np.count_nonzero(mask)) * voxel_ml for mask in masks]
        rows.append(
            LabelScore(case=case, label=name, volume_ml_predicted=volumes[0], volume_ml_true=volumes[1], **figures)
        )
    return rows


def _figures(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], *, spacing: ArrayLike, nsd_tolerance_mm: float
) -> dict[str, float]:
    n_predicted, n_true = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    if n_predicted == 0 and n_true == 0:
        return {}
    if n_predicted == 0:
        # distances to a surface that is not there are left undefined, and enter no mean
        return {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "recall": 0.0}
    if n_true == 0:
        return {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "precision": 0.0}
    overlap = int(np.count_nonzero(predicted & true))
    forth, back = surface_distances(predicted, true, spacing=spacing)
    return {
        "dice": 2 * overlap / (n_predicted + n_true),
        "iou": overlap / (n_predicted + n_true - overlap),
        "hd95_mm": hausdorff95(forth, back),
        "assd_mm": average_surface_distance(forth, back),
        "nsd": surface_dice(forth, back, tolerance_mm=nsd_tolerance_mm),
        "precision": overlap / n_predicted,
        "recall": overlap / n_true,
    }


def _as_integers(label_map: NDArray[Any]) -> NDArray[np.int32]:
    integers: NDArray[np.int32] = np.rint(label_map).astype(np.int32)
    return integers


def generic_names(*label_maps: NDArray[Any]) -> dict[int, str]:
    """Return ``label_3`` for 3, for every value but background that occurs in the label maps."""
    values = sorted({round(float(value)) for label_map in label_maps for value in np.unique(label_map)} - {0})
    return {value: f"label_{value}" for value in values}


Box = tuple[slice, ...]


def _box_of(boxes: list[Box | None], value: int) -> Box | None:
    return boxes[value - 1] if 1 <= value <= len(boxes) else None


def _joint_box(first: Box | None, second: Box | None, spatial_dims: int) -> Box:
    """Return the smallest box that holds both; outside it the two masks agree on background."""
    if first is None or second is None:
        return first or second or (slice(0, 0),) * spatial_dims
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
