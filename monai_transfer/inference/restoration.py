"""From finished slices on the working grid to labels on the native grid, one native slice at a time.

Orientation, resampling along the axes, cropping and padding all act on each axis alone. Their inverse is therefore a
permutation of the axes and, for each native axis, a matrix with at most two entries a row: the two working voxels
between which a native voxel lies. The matrices are read off the trace that MONAI leaves on a preprocessed image, so
that they say what ``Invertd(nearest_interp=False)`` would do.

A native slice thus lies between two neighbouring working slices. As soon as the second is final, both are interpolated
within their plane, blended, and reduced to labels; the class probabilities of the native volume never exist together.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import scipy.sparse
import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import AFFINE_TOL

from monai_transfer.inference.cores import one_core_each
from monai_transfer.inference.resampling import (
    ColumnResizer,
    Matrix,
    NotSeparable,
    Taps,
    axis_steps,
    lerp_rows,
    linear_matrix,
)
from monai_transfer.inference.sinks import Sink

CACHED = 1 << 18
"""Numbers that a part of a plane may hold to stay in a core's cache."""


@dataclass(frozen=True)
class GridMap:
    """How each native axis is interpolated from the working grid.

    Attributes:
        working_axis: for each native axis the working axis that it runs along.
        taps: for each native axis its interpolation.
    """

    working_axis: tuple[int, ...]
    taps: tuple[Taps, ...]

    def in_3d(self) -> "GridMap":
        """A 2D grid with a third axis of one voxel; one of three axes as it is."""
        if len(self.taps) == 3:
            return self
        single = Taps.from_matrix(scipy.sparse.eye_array(1, format="csr"))
        return GridMap((*self.working_axis, 2), (*self.taps, single))


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
        # in these cases MONAI's own inverse leaves the voxels as they are, and only takes the affine over
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


class Restorer:
    """Interpolates finished working slices onto the native grid and feeds a sink.

    A linear interpolation never exceeds the largest of its taps. With probabilities that add up to one, a class that
    stays below ``1 / classes`` at all taps cannot be the largest there, and where only the background does not, the
    label is background: such classes, rows and columns are left out, without any change of the result.

    Args:
        grid: the way from the working grid to the native grid.
        order: the working axes of slices, rows and columns.
        sink: takes the native slices.
        floor: probability below which a class cannot matter; 0 keeps everything.
        wanted: classes of which one must reach the floor for a place to matter; all where None.
        device: where the interpolation runs.
    """

    def __init__(
        self,
        grid: GridMap,
        *,
        order: Sequence[int],
        sink: Sink,
        floor: float = 0.0,
        wanted: Collection[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        slow, self.rows, self.columns = (grid.taps[grid.working_axis.index(a)].to(device) for a in order)
        self.sink, self.floor, self.wanted = sink, floor * (1 - 1e-3), wanted
        self.due: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
        for native, (lower, upper, lower_weight, upper_weight) in enumerate(
            zip(*(t.tolist() for t in (slow.lower, slow.upper, slow.lower_weight, slow.upper_weight)), strict=True)
        ):
            if lower_weight or upper_weight:
                before = lower_weight if upper != lower else 0.0
                # a native slice is due when the later of its two working slices is final
                self.due[upper].append((native, before, upper_weight if upper != lower else lower_weight))
        self.carry: list[torch.Tensor] = []

    def feed(self, first: int, probabilities: torch.Tensor) -> None:
        """Take the probabilities (n, C, rows, columns) of the working slices from ``first`` on."""
        self._restore(first - len(self.carry), probabilities)
        # the lower neighbour of what comes with the next part; a copy, because the slab rolls on
        self.carry = [probabilities[-1].clone()]

    def _restore(self, first: int, probabilities: torch.Tensor) -> None:
        classes, rows, columns = self._relevant(probabilities)
        if not classes:
            return
        native_rows, native_columns = _covered(self.rows, rows), _covered(self.columns, columns)
        column_taps, columns = self.columns.restrict(native_columns)
        resize = ColumnResizer(column_taps)
        slices, known = [*self.carry, *probabilities], len(self.carry)

        def restore_rows(part: slice) -> None:
            taps, needed = self.rows.restrict(part)
            previous: torch.Tensor | None = None
            for offset, values in enumerate(slices):
                working = values[:, needed, columns]
                plane = lerp_rows(resize(working if len(classes) == len(values) else working[classes]), taps)
                for native, before, after in self.due.get(first + offset, ()) if offset >= known else ():
                    blended = plane * after if previous is None or not before else blend(previous, plane, before, after)
                    self.sink.take(native, part, native_columns, classes, blended)
                previous = plane

        size = max(CACHED // (len(classes) * (native_columns.stop - native_columns.start)), 16)
        starts = range(native_rows.start, native_rows.stop, size)
        one_core_each(restore_rows, [slice(start, min(start + size, native_rows.stop)) for start in starts])

    def _relevant(self, probabilities: torch.Tensor) -> tuple[list[int], slice, slice]:
        """The classes, working rows and working columns that can matter."""
        everything = slice(0, probabilities.shape[2]), slice(0, probabilities.shape[3])
        if not self.floor:
            return list(range(probabilities.shape[1])), *everything
        highest = probabilities.amax(dim=0)
        for before in self.carry:
            torch.maximum(highest, before, out=highest)
        reached = highest >= self.floor
        per_class = reached.flatten(1).any(dim=1).tolist()
        classes = [c for c, present in enumerate(per_class) if present]
        seen = [c for c in classes if self.wanted is None or c in self.wanted]
        if not seen:
            return [], *everything
        where = reached[seen].any(dim=0)
        return classes, _extent(where.any(dim=1)), _extent(where.any(dim=0))


def blend(lower: torch.Tensor, upper: torch.Tensor, before: float, after: float) -> torch.Tensor:
    """``before * lower + after * upper``."""
    if abs(before + after - 1) < 1e-6:
        return torch.lerp(lower, upper, after)
    return (lower * before).add_(upper, alpha=after)


def _extent(present: torch.Tensor) -> slice:
    """From the first to the last true entry."""
    hits = present.nonzero()
    return slice(int(hits[0]), int(hits[-1]) + 1)


def _covered(taps: Taps, inputs: slice) -> slice:
    """The outputs that read any of ``inputs``."""
    reads = (taps.upper >= inputs.start) & (taps.lower < inputs.stop)
    return _extent(reads) if bool(reads.any()) else slice(0, 0)
