"""The slice of a case that a picture shows: which one, which way up, how wide, how bright."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from monai_transfer.evaluation.matching import read_like, read_single
from monai_transfer.evaluation.scores import generic_names
from monai_transfer.volumes.volume import Reading

CT_WINDOW_HU = (-160.0, 240.0)
LONGEST_STRIP = 1.6


@dataclass(frozen=True, kw_only=True)
class OverlayCase:
    """One case to draw: image and label maps on one grid.

    Attributes:
        name: name of the case.
        image: voxels of shape (X, Y[, Z]).
        affine: voxel index → mm in RAS, of shape (4, 4).
        label_names: value → name.
        truth: the true label map, None where there is none.
        predictions: label maps by arm, drawn in this order.
        dice: mean Dice by arm, written over the panels.

    Example:
        >>> truth = np.zeros((8, 8, 8), np.uint8)
        >>> truth[2:6, 2:6, 2:6] = 1
        >>> case = OverlayCase(name="a", image=100 * truth, affine=np.eye(4), label_names={1: "liver"}, truth=truth)
        >>> case.name, list(case.label_names.values())
        ('a', ['liver'])
    """

    name: str
    image: NDArray[Any]
    affine: NDArray[np.float64]
    label_names: Mapping[int, str]
    truth: NDArray[Any] | None = None
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    dice: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        name: str,
        image: Path,
        *,
        label_names: Mapping[int, str],
        truth: Path | None = None,
        predictions: Mapping[str, Path] | None = None,
        dice: Mapping[str, float] | None = None,
        reading: Reading = Reading(),  # noqa: B008 (frozen)
    ) -> "OverlayCase":
        """Read a case from files; without label names, every value in the maps is drawn.

        Raises:
            UserError: when a file cannot be read or lies on another grid than the image.
        """
        volume = read_single(image, first_channel=True, reading=reading)
        true = None if truth is None else read_like(truth, volume, reading=reading)
        maps = {arm: read_like(path, volume, reading=reading) for arm, path in (predictions or {}).items()}
        return cls(
            name=name,
            image=volume.array[0],
            affine=volume.affine,
            label_names=label_names or generic_names(*maps.values(), *([] if true is None else [true])),
            truth=true,
            predictions=maps,
            dice=dice or {},
        )


@dataclass(frozen=True)
class Slice:
    """A slice ready to be shown: rows from the top, the patient's right at the viewer's left."""

    image: NDArray[Any]
    maps: dict[str, NDArray[Any]]
    aspect: float
    grey: tuple[float, float]
    left_is_right: bool


def shown_slice(case: OverlayCase) -> Slice:
    """Cut the slice that shows most of the labels, in radiological orientation and true proportions.

    The plane is axial unless the voxels are much longer along another axis, in which case it lies across that axis.
    Of all slices the one is taken where the labels' areas, each relative to its largest, add up to most.
    """
    maps = {"truth": case.truth} if case.truth is not None else {}
    maps |= dict(case.predictions)
    turn = nib.io_orientation(case.affine)
    image, *turned = [
        nib.orientations.apply_orientation(np.atleast_3d(volume), turn) for volume in (case.image, *maps.values())
    ]
    spacing = voxel_sizes(case.affine)[np.argsort(turn[:, 0])]
    normal = _normal_axis(image.shape, spacing)
    index = _fullest(turned[0] if turned else image > image.mean(), normal)
    flat = [_radiological(np.take(volume, index, axis=normal)) for volume in (image, *turned)]
    across, up = (axis for axis in range(3) if axis != normal)
    aspect = float(spacing[up] / spacing[across])
    box = _body_box(flat[0], flat[1:], aspect=aspect)
    return Slice(
        image=flat[0][box],
        maps={name: plane[box] for name, plane in zip(maps, flat[1:], strict=True)},
        aspect=aspect,
        grey=_grey_range(image),
        left_is_right=normal != 0,
    )


def _normal_axis(shape: tuple[int, ...], spacing: NDArray[np.float64]) -> int:
    if 1 in shape:
        return shape.index(1)
    return int(np.argmax(spacing)) if spacing.max() > 1.5 * np.median(spacing) else 2


def _radiological(plane: NDArray[Any]) -> NDArray[Any]:
    """Turn a plane of a RAS volume so that superior (or anterior) is up and right (or anterior) is left."""
    return plane[::-1, ::-1].T


def _fullest(label_map: NDArray[Any], normal: int) -> int:
    others = tuple(axis for axis in range(3) if axis != normal)
    fullness = np.zeros(label_map.shape[normal])
    for value in np.unique(label_map):
        area = np.count_nonzero(label_map == value, axis=others)
        if value != 0:
            fullness += area / area.max()
    return int(fullness.argmax()) if fullness.any() else label_map.shape[normal] // 2


def _body_box(image: NDArray[Any], maps: Sequence[NDArray[Any]], *, aspect: float) -> tuple[slice, slice]:
    """Return the rows and columns that hold the body; of a strip that is too long, those around the labels."""
    low, high = np.percentile(image, (1, 99))
    labels: NDArray[np.bool_] = np.any([np.zeros(image.shape, bool), *(plane > 0 for plane in maps)], axis=0)
    body = _extent(labels | (image >= low + 0.15 * (high - low)))
    kept = _extent(labels) if labels.any() else body
    width, height = body[1][1] - body[1][0], (body[0][1] - body[0][0]) * aspect
    rows = _shortened(body[0], kept[0], round(width * LONGEST_STRIP / aspect))
    columns = _shortened(body[1], kept[1], round(height * LONGEST_STRIP))
    return slice(*rows), slice(*columns)


def _extent(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    inside = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    return [(max(0, int(v[0]) - 2), min(size, int(v[-1]) + 3)) for v, size in zip(inside, mask.shape, strict=True)]


def _shortened(body: tuple[int, int], kept: tuple[int, int], most: int) -> tuple[int, int]:
    if body[1] - body[0] <= most:
        return body
    most = max(most, kept[1] - kept[0])
    start = min(max((kept[0] + kept[1] - most) // 2, body[0]), body[1] - most)
    return start, start + most


def _grey_range(image: NDArray[Any]) -> tuple[float, float]:
    """Return the window: soft tissue for CT (air far below zero), percentiles of what is not background for MR."""
    if np.percentile(image, 1) < -500:
        return CT_WINDOW_HU
    body = image[image > np.percentile(image, 1)]
    low, high = np.percentile(body if body.size else image, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))
