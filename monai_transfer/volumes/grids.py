"""Voxel grids in the world: spacing, extent, and whether two of them are the same."""

from itertools import product

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

GRID_TOLERANCE_MM = 0.5
"""How far apart two grids may place the same voxel and still count as one grid, mm; never more than a quarter voxel."""


def spacing_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel size along each axis, ``(3,)``, mm."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


_SMALLEST_MM, _LARGEST_MM = 1e-6, 1e6
"""Voxels of a nanometre, and distances of a kilometre, come from headers full of noise and not from a scanner."""


def is_degenerate(affine: NDArray[np.float64]) -> bool:
    """Whether the affine is not finite, absurdly large or small, or maps the volume onto less than a space."""
    if not np.isfinite(affine).all() or np.abs(affine).max() > _LARGEST_MM:
        return True
    if (spacing_of(affine) < _SMALLEST_MM).any():
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / spacing_of(affine))) < 1e-3)


def shear_of(affine: NDArray[np.float64]) -> float:
    """Largest cosine between two axes of the grid; 0 when they are perpendicular."""
    axes = affine[:3, :3] / spacing_of(affine)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def to_ras(affine: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Values per voxel axis in the order left-right, back-front, feet-head."""
    order = np.argsort(nib.io_orientation(affine)[:, 0])
    x, y, z = (float(values[axis]) for axis in order)
    return x, y, z


def orientation_code(affine: NDArray[np.float64]) -> str:
    """``RAS``, ``LPS``, …: where the voxel axes point."""
    return "".join(str(code) for code in nib.aff2axcodes(affine))


def largest_shift(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """How far apart two affines place the same corner of a volume at most, mm."""
    sizes = (*shape, 1, 1)[:3]  # a picture of two axes lies in space too
    corners = np.array([[*corner, 1.0] for corner in product(*((0, size - 1) for size in sizes))])
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def turned_like(
    affine: NDArray[np.float64], shape: tuple[int, ...], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Affine and shape of a grid after its axes were swapped and flipped into the reference's orientation."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.io_orientation(reference))
    turned = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    order = np.argsort(turn[:, 0])
    return turned, tuple(shape[axis] for axis in order)


def same_grid(affine: NDArray[np.float64], reference: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether two affines place every voxel of a shape alike, up to :data:`GRID_TOLERANCE_MM`.

    Label maps that went through another program come back with rounded affines, but never a quarter voxel off.
    """
    tolerance = min(GRID_TOLERANCE_MM, float(spacing_of(reference).min()) / 4)
    return largest_shift(affine, reference, shape) <= tolerance
