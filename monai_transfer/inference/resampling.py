"""Linear interpolation along single axes: each output lies between two neighbouring inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import torch
from monai.networks.utils import to_norm_affine

from monai_transfer.inference.cores import one_core_each

Matrix: TypeAlias = Any
"""Interpolation along one axis: a ``scipy.sparse.csr_array`` (native voxels, working voxels)."""


class NotSeparable(Exception):  # noqa: N818 - a way out, not a fault
    """The inverse of the preprocessing mixes axes; it has no matrix per axis."""


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: ``out[n] = (1 - w) * in[upper - 1] + w * in[upper]``, at most two taps.

    Attributes:
        lower: index of the first tap of each output voxel, (N,).
        upper: index of the second tap, ``lower`` or ``lower + 1``, (N,).
        lower_weight: weight of the first tap, (N,); zero where the output lies outside the input.
        upper_weight: weight of the second tap, (N,); zero where there is none.
        size: number of input voxels.
    """

    lower: torch.Tensor
    upper: torch.Tensor
    lower_weight: torch.Tensor
    upper_weight: torch.Tensor
    size: int

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> "Taps":
        """Read the taps off a matrix with at most two neighbouring entries in a row."""
        rows = scipy.sparse.csr_array(matrix)
        rows.eliminate_zeros()
        rows.sort_indices()
        count = np.diff(rows.indptr)
        if count.max(initial=0) > 2:
            raise NotSeparable("more than two taps in a row")
        # rows without an entry point at some entry all the same; their weights are 0
        first = np.minimum(rows.indptr[:-1], max(rows.nnz - 1, 0))
        second = np.minimum(rows.indptr[:-1] + 1, max(rows.nnz - 1, 0))
        indices, values = (rows.indices, rows.data) if rows.nnz else (np.zeros(1, int), np.zeros(1))
        lower = np.where(count > 0, indices[first], 0)
        upper = np.where(count > 1, indices[second], lower)
        if (upper - lower).max(initial=0) > 1:
            raise NotSeparable("taps that are not neighbours")
        return cls(
            lower=torch.from_numpy(lower.astype(np.int64)),
            upper=torch.from_numpy(upper.astype(np.int64)),
            lower_weight=torch.from_numpy(np.where(count > 0, values[first], 0.0).astype(np.float32)),
            upper_weight=torch.from_numpy(np.where(count > 1, values[second], 0.0).astype(np.float32)),
            size=int(matrix.shape[1]),
        )

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def is_identity(self) -> bool:
        """Whether every output voxel is the input voxel of the same index."""
        return (
            len(self) == self.size
            and bool((self.lower == torch.arange(self.size, device=self.lower.device)).all())
            and bool((self.lower_weight == 1).all())
            and bool((self.upper_weight == 0).all())
        )

    def to(self, device: torch.device | str) -> "Taps":
        """The same taps on another device."""
        return Taps(
            lower=self.lower.to(device),
            upper=self.upper.to(device),
            lower_weight=self.lower_weight.to(device),
            upper_weight=self.upper_weight.to(device),
            size=self.size,
        )

    def restrict(self, outputs: slice) -> "tuple[Taps, slice]":
        """The taps of some outputs, renumbered to the inputs that they read, and these inputs."""
        lower, upper = self.lower[outputs], self.upper[outputs]
        start, stop = int(lower.min()), int(upper.max()) + 1
        weights = self.lower_weight[outputs], self.upper_weight[outputs]
        return Taps(lower - start, upper - start, *weights, size=stop - start), slice(start, stop)

    def dense(self) -> torch.Tensor:
        """The matrix itself, (N, size)."""
        matrix = torch.zeros(len(self), self.size, device=self.lower.device)
        rows = torch.arange(len(self), device=self.lower.device)
        matrix[rows, self.upper] += self.upper_weight
        matrix[rows, self.lower] += self.lower_weight
        return matrix


def linear_matrix(size_out: int, size_in: int, scale: float, offset: float, *, mode: str, padding: str) -> Matrix:
    """The matrix of ``grid_sample`` along one axis, sampling input coordinate ``scale * n + offset`` for output ``n``.

    Args:
        size_out: output voxels.
        size_in: input voxels.
        scale: input voxels per output voxel; negative where the axis is flipped.
        offset: input coordinate of output voxel 0.
        mode: ``"bilinear"`` or ``"nearest"``.
        padding: ``"border"`` (clamp) or ``"zeros"``.

    Raises:
        NotSeparable: for another mode or padding.
    """
    if mode not in ("bilinear", "nearest") or padding not in ("border", "zeros"):
        raise NotSeparable(f"{mode} interpolation with {padding} padding")
    position = sample_positions(size_out, size_in, scale, offset)
    if padding == "border":
        position = np.clip(position, 0, size_in - 1)
    if mode == "nearest":
        position = np.rint(position)
    lower = np.floor(position).astype(np.int64)
    fraction = position - lower
    rows = np.tile(np.arange(size_out), 2)
    columns = np.concatenate([lower, lower + 1])
    values = np.concatenate([1 - fraction, fraction])
    # padding with zeros is to leave out what lies outside; with a border nothing lies outside any more
    keep = (columns >= 0) & (columns < size_in) & (values > 0)
    return scipy.sparse.csr_array((values[keep], (rows[keep], columns[keep])), shape=(size_out, size_in))


def sample_positions(size_out: int, size_in: int, scale: float, offset: float) -> np.ndarray:
    """``scale * n + offset`` for each output ``n``, rounded the way MONAI and torch round it.

    Where a voxel of the native grid falls onto a voxel of the working grid just outside a crop, the last bit decides
    whether the crop's edge reaches it; so the coordinates take the same way here, through torch's normalised ones.
    """
    affine = torch.tensor([[[scale, offset], [0.0, 1.0]]], dtype=torch.float64)
    norm = to_norm_affine(affine, (size_in,), (size_out,), align_corners=False)[0]
    theta = torch.eye(3, 4, dtype=torch.float64)
    theta[0, 0], theta[0, 3] = norm[0, 0], norm[0, 1]
    grid = torch.nn.functional.affine_grid(theta[None], [1, 1, 1, 1, size_out], align_corners=False)
    return (((grid[0, 0, 0, :, 0] + 1) * size_in - 1) / 2).numpy()


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


def lerp_rows(image: torch.Tensor, taps: Taps) -> torch.Tensor:
    """Interpolate along the last axis but one: (..., size, M) -> (..., N, M)."""
    if taps.is_identity:
        return image
    lower = image.index_select(-2, taps.lower).mul_(taps.lower_weight[:, None])
    return lower.addcmul_(image.index_select(-2, taps.upper), taps.upper_weight[:, None])


class ColumnResizer:
    """Interpolates along the last axis by products with small matrices, for the matrix is a narrow band.

    Args:
        taps: the interpolation.
        block: outputs per matrix.
    """

    def __init__(self, taps: Taps, *, block: int = 64) -> None:
        self.size = len(taps)
        self.identity = taps.is_identity
        self.blocks: list[tuple[slice, slice, torch.Tensor]] = []
        for start in range(0, self.size, block):
            part = slice(start, min(start + block, self.size))
            restricted, needed = taps.restrict(part)
            self.blocks.append((part, needed, restricted.dense().T.contiguous()))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., N)."""
        if self.identity:
            return image
        flat = image.reshape(-1, image.shape[-1])
        out = torch.empty(len(flat), self.size, device=image.device)
        for part, needed, matrix in self.blocks:
            torch.mm(flat[:, needed], matrix, out=out[:, part])
        return out.view(*image.shape[:-1], self.size)


def interpolate(image: torch.Tensor, taps: Sequence[Taps]) -> torch.Tensor:
    """Interpolate a volume along each of its axes without a full-size copy of it.

    The planes across the axis that lies slowest in memory are blended one at a time, then resized within the plane.

    Args:
        image: (C, X, Y, Z) of any number type and memory layout.
        taps: the interpolation of each spatial axis.

    Returns:
        (C, X', Y', Z') in float32; its memory layout follows that of ``image``.
    """
    taps = [t.to(image.device) for t in taps]
    order = sorted(range(3), key=lambda axis: -image.stride(axis + 1))
    slow, rows, columns = (taps[axis] for axis in order)
    planes = image.permute(0, *(axis + 1 for axis in order))
    out = torch.empty(image.shape[0], len(slow), len(rows), len(columns), device=image.device)
    resize = ColumnResizer(columns)
    steps = [t.tolist() for t in (slow.lower, slow.upper, slow.lower_weight, slow.upper_weight)]

    def write(n: int) -> None:
        lower, upper, lower_weight, upper_weight = (values[n] for values in steps)
        plane = planes[:, lower].to(torch.float32, copy=True)
        plane *= lower_weight
        if upper_weight:
            plane.add_(planes[:, upper].to(torch.float32), alpha=upper_weight)
        out[:, n] = resize(lerp_rows(plane, rows))

    one_core_each(write, range(len(slow)))
    return out.permute(0, *(1 + order.index(axis) for axis in range(3)))
