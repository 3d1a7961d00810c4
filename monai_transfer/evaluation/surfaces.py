"""Distances between the surfaces of two masks, in millimetres."""

from typing import Any

import numpy as np
from monai.metrics import get_mask_edges
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


def voxel_steps(spacing: ArrayLike, spatial_dims: int) -> NDArray[np.float64]:
    """Return the matrix whose columns are the steps, in mm, from a voxel to its neighbour along each axis.

    Args:
        spacing: voxel sizes in mm, one per axis, or the affine of the grid, of shape (d, d) or (d+1, d+1). Voxel
            sizes say all there is to say of axes at right angles; a sheared grid (a tilted CT gantry) needs the
            affine.
        spatial_dims: d, the number of axes of the masks.

    Raises:
        ValueError: when ``spacing`` is neither.
    """
    values = np.asarray(spacing, dtype=np.float64)
    if values.shape == (spatial_dims,):
        return np.diag(values)
    if values.shape in {(spatial_dims, spatial_dims), (spatial_dims + 1, spatial_dims + 1)}:
        return values[:spatial_dims, :spatial_dims]
    raise ValueError(f"spacing of shape {values.shape} is neither {spatial_dims} voxel sizes nor an affine")


def surface_distances(first: Mask, second: Mask, *, spacing: ArrayLike) -> tuple[Distances, Distances]:
    """Measure how far each surface voxel of one mask lies from the nearest surface voxel of the other.

    A surface voxel is a foreground voxel with a background neighbour across a face, as in MONAI's
    :func:`~monai.metrics.get_mask_edges`; outside the image all is background. Distances run between the centres of
    surface voxels. They equal those of MONAI's distance transforms, but come from one nearest-neighbour search that
    serves all the metrics, takes no memory for the space in between, and is exact on sheared grids.

    Args:
        first: mask of shape (H, W[, D]).
        second: mask of the same shape.
        spacing: see :func:`voxel_steps`.

    Returns:
        The distances in mm from the first surface to the second, and from the second to the first.

    Raises:
        ValueError: when a mask is empty: there is no distance to nothing.
    """
    if not first.any() or not second.any():
        raise ValueError("the distance to the surface of an empty mask is undefined")
    steps = voxel_steps(spacing, first.ndim)
    # surfaces lie inside the box of both masks: edges are looked for there alone
    box = _bounding_box(first | second)
    edges = get_mask_edges(first[box], second[box], crop=False)
    # voxel indices become millimetres by the grid's own steps, so a shear needs no case of its own
    points = [np.argwhere(edge) @ steps.T for edge in edges]
    return _nearest(points[0], points[1]), _nearest(points[1], points[0])


def _nearest(points: NDArray[np.float64], targets: NDArray[np.float64]) -> Distances:
    distances, _ = cKDTree(targets).query(points)
    return np.asarray(distances, dtype=np.float64)


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    box: list[slice] = []
    for axis in range(mask.ndim):
        others: Any = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def hausdorff95(forth: Distances, back: Distances) -> float:
    """Return HD95: the larger of the two directed 95th percentiles, in mm."""
    return float(max(np.percentile(forth, 95), np.percentile(back, 95)))


def average_surface_distance(forth: Distances, back: Distances) -> float:
    """Return ASSD: the mean over the surface voxels of both masks, in mm."""
    return float(np.concatenate([forth, back]).mean())


def surface_dice(forth: Distances, back: Distances, *, tolerance_mm: float) -> float:
    """Return NSD: the share of both surfaces that lies within ``tolerance_mm`` of the other (Nikolov et al. 2018)."""
    # a surface just at the tolerance counts as within, whatever the last digit of its distance
    return float((np.concatenate([forth, back]) <= tolerance_mm + 1e-6).mean())
