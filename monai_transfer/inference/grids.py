"""The way back from the working grid to the native grid, one small interpolation matrix per axis.

Orientation, resampling along the axes, cropping and padding all act on each axis alone. Their inverse is therefore a
permutation of the axes and, for each native axis, a matrix with at most two entries a row: the two working voxels
between which a native voxel lies. The matrices are read off the trace that MONAI leaves on a preprocessed image, so
that they say what ``Invertd(nearest_interp=False)`` would do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import scipy.sparse
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import AFFINE_TOL

from monai_transfer.inference.taps import (
    Matrix,
    NotSeparable,
    Taps,
    linear_matrix,
)


@dataclass(frozen=True)
class GridMap:
    """How each native axis is interpolated from the working grid.

    Attributes:
        working_axis: for each native axis the working axis that it runs along.
        taps: for each native axis its interpolation.
    """

    working_axis: tuple[int, ...]
    taps: tuple[Taps, ...]

    @property
    def native_shape(self) -> tuple[int, ...]:
        """Voxels of the native grid."""
        return tuple(len(t) for t in self.taps)


def axis_steps(transform: np.ndarray, *, tolerance: float = 1e-6) -> tuple[tuple[int, ...], np.ndarray]:
    """Split a voxel-to-voxel affine into the axis that each row reads and (scale, offset) of each row.

    Raises:
        NotSeparable: when a row reads more than one axis.
    """
    linear, offset = transform[:-1, :-1], transform[:-1, -1]
    axes = np.abs(linear).argmax(axis=1)
    rest = linear.copy()
    rest[np.arange(len(axes)), axes] = 0
    if sorted(axes) != list(range(len(axes))) or np.abs(rest).max(initial=0) > tolerance:
        raise NotSeparable("an oblique or sheared resampling")
    return tuple(int(a) for a in axes), np.stack([linear[np.arange(len(axes)), axes], offset], axis=1)


class _Walk:
    """The grid during the walk back through the trace: shape, affine and the matrices gathered so far."""

    def __init__(self, affine: np.ndarray, shape: Sequence[int], mode: str | None) -> None:
        self.affine = affine
        self.mode = mode
        self.axes = list(range(len(shape)))
        self.matrices: list[Matrix] = [scipy.sparse.eye_array(n, format="csr") for n in shape]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(m.shape[0] for m in self.matrices)

    def shift(self, start: Sequence[int]) -> None:
        """Move the origin of the affine by ``start`` voxels."""
        translation = np.eye(len(self.affine))
        translation[: len(start), -1] = start
        self.affine = self.affine @ translation

    def undo_crop(self, margins: Sequence[int]) -> None:
        """Put back what was cut: zero rows before and after, as MONAI pads with zeros."""
        before, after = margins[0::2], margins[1::2]
        self.matrices = [
            scipy.sparse.csr_array(scipy.sparse.vstack([_zeros(b, m.shape[1]), m, _zeros(a, m.shape[1])], format="csr"))
            for m, b, a in zip(self.matrices, before, after, strict=True)
        ]
        self.shift([-b for b in before])

    def undo_pad(self, padded: Sequence[Sequence[int]]) -> None:
        """Cut what was padded; ``padded`` has a first entry for the channels."""
        self.matrices = [
            m[max(before, 0) : m.shape[0] - max(after, 0)]
            for m, (before, after) in zip(self.matrices, padded[1:], strict=True)
        ]
        self.shift([before for before, _ in padded[1:]])

    def undo_orientation(self, original_affine: np.ndarray) -> None:
        """Permute and flip back to the axis codes of ``original_affine``."""
        rank = len(self.matrices)
        target = _square(original_affine, rank)
        ornt = nibabel.orientations.ornt_transform(nibabel.io_orientation(self.affine), nibabel.io_orientation(target))
        self.affine = self.affine @ nibabel.orientations.inv_ornt_aff(ornt, self.shape)
        order = np.argsort(ornt[:, 0])
        flipped = [m[::-1] if ornt[i, 1] == -1 else m for i, m in enumerate(self.matrices)]
        self.matrices = [flipped[i] for i in order]
        self.axes = [self.axes[i] for i in order]

    def undo_flip(self, axes: Any) -> None:
        """Flip back along spatial ``axes`` (all of them when None)."""
        chosen = range(len(self.matrices)) if axes is None else np.atleast_1d(axes)
        for axis in (int(a) % len(self.matrices) for a in chosen):
            flip = np.eye(len(self.affine))
            flip[axis, axis], flip[axis, -1] = -1, self.shape[axis] - 1
            self.affine = self.affine @ flip
            self.matrices[axis] = self.matrices[axis][::-1]

    def undo_resample(self, info: Mapping[str, Any], original_size: Sequence[int]) -> None:
        """Interpolate back to the grid before a ``Spacing`` or ``SpatialResample``."""
        rank = len(self.matrices)
        target = _square(np.asarray(info["src_affine"], dtype=float), rank)
        transform = np.linalg.solve(self.affine, target)
        same_size = tuple(original_size) == self.shape
        if same_size and (
            np.allclose(self.affine, target, atol=AFFINE_TOL)
            or np.allclose(transform, np.eye(rank + 1), atol=AFFINE_TOL)
        ):
            self.affine = target
            return
        axes, steps = axis_steps(transform)
        if axes != tuple(range(rank)):
            raise NotSeparable("a resampling that exchanges axes")
        mode, padding = self.mode or str(info["mode"]), str(info["padding_mode"])
        self.matrices = [
            linear_matrix(n, m.shape[0], scale, offset, mode=mode, padding=padding) @ m
            for n, m, (scale, offset) in zip(original_size, self.matrices, steps, strict=True)
        ]
        self.affine = target


def _zeros(rows: int, columns: int) -> Matrix:
    return scipy.sparse.csr_array((max(rows, 0), columns))


def _square(affine: np.ndarray, rank: int) -> np.ndarray:
    """The affine of the first ``rank`` axes, (rank + 1, rank + 1)."""
    keep = [*range(rank), -1]
    return np.asarray(affine, dtype=float)[np.ix_(keep, keep)]


def _undo(walk: _Walk, operation: Mapping[str, Any]) -> None:
    name = operation["class"]
    if name == "Lambda":  # an intensity map: nothing moves
        return
    info = operation["extra_info"]
    if name == "Orientation":
        walk.undo_orientation(np.asarray(info["original_affine"]))
    elif name in ("SpatialResample", "Spacing"):
        walk.undo_resample(info, [int(n) for n in operation["orig_size"]])
    elif "cropped" in info:
        if "pad_info" in info:
            _undo(walk, info["pad_info"])
        walk.undo_crop(info["cropped"])
    elif "padded" in info:
        walk.undo_pad(info["padded"])
    elif name == "Flip":
        walk.undo_flip(info["axes"])
    else:
        raise NotSeparable(f"{name} has no inverse along single axes here")


def native_from_working(image: MetaTensor, *, nearest: bool = False) -> GridMap:
    """Read off the trace of a preprocessed image how its native grid is interpolated from it.

    Args:
        image: the preprocessed image, (C, *working shape), with the trace of its transforms.
        nearest: nearest neighbour instead of the mode of the forward transform (MONAI's ``nearest_interp=True``).

    Raises:
        NotSeparable: when some transform mixes axes or is not known here.
    """
    shape = tuple(int(n) for n in image.shape[1:])
    affine = _square(np.asarray(image.affine, dtype=float), len(shape))
    walk = _Walk(affine, shape, "nearest" if nearest else None)
    for operation in reversed(image.applied_operations):
        _undo(walk, operation)
    return GridMap(tuple(walk.axes), tuple(Taps.from_matrix(m) for m in walk.matrices))
