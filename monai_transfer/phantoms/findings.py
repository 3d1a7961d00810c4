"""What a person may have: a focal lesion of the liver, a mass of the lung, a pneumonia."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.geometry import Ellipsoid, Field, Waves, grid_points
from monai_transfer.phantoms.tissue import LESION_LABEL, Tissue

Finding = Literal["healthy", "lesion", "mass", "pneumonia"]

LESION_RADIUS = (16.0, 28.0)
"""Half axes of a lesion of the liver, mm: from three coarse voxels across to a third of a lobe."""

MASS_RADIUS = (15.0, 23.0)
"""Half axes of a mass of the lung, mm: from 3 cm across on it is called so, and smaller ones hide behind ribs."""

PNEUMONIA_RADIUS = (24.0, 42.0)
"""Half axes of the part of a lung that a pneumonia may fill, mm."""

_MARGIN = 0.75
"""A focal finding's centre lies where a ball of this share of its radius is still inside of its organ."""


def paint_finding(
    tissue: NDArray[np.uint8],
    label: NDArray[np.uint8],
    *,
    finding: Finding,
    anatomy: Anatomy,
    affine: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissue and label map of a painted person with a finding, each ``(x, y, z)``.

    Args:
        tissue: of every voxel of the healthy person.
        label: of every voxel; a focal finding gets the value :data:`~monai_transfer.phantoms.tissue.LESION_LABEL`.
        finding: what the person has.
        anatomy: the person.
        affine: voxel to body frame, mm.
        rng: where place and shape come from.

    Raises:
        ValueError: the organ is not on the grid.
    """
    if finding == "healthy":
        return tissue, label
    organ = tissue == (Tissue.LIVER if finding == "lesion" else Tissue.LUNG)
    shape = (tissue.shape[0], tissue.shape[1], tissue.shape[2])
    points = grid_points(affine, shape)
    if finding == "pneumonia":
        where = _patches(organ, points, affine, shape, rng)
        return np.where(where, np.uint8(Tissue.OPACITY), tissue), label
    low, high = LESION_RADIUS if finding == "lesion" else MASS_RADIUS
    radius = float(rng.uniform(low, high)) * anatomy.size
    axes = radius * np.exp(rng.normal(0, 0.12, 3))
    centre = _inner_point(organ, points, depth=_MARGIN * radius, affine=affine, rng=rng)
    body = Ellipsoid(centre, _three(axes), _three(rng.uniform(-np.pi, np.pi, 3)))
    bumps = Waves.random(rng, shortest=14, longest=40, amplitude=0.08).on_grid(affine, shape)
    where = organ & (body.field(points) + bumps < 1)
    return np.where(where, np.uint8(Tissue.LESION), tissue), np.where(where, np.uint8(LESION_LABEL), label)


def _patches(
    lung: NDArray[np.bool_],
    points: Field,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Blotches within one or two parts of the lungs."""
    inside = np.zeros(shape, bool)
    for _ in range(int(rng.integers(1, 3))):
        axes = rng.uniform(*PNEUMONIA_RADIUS, 3)
        centre = _inner_point(lung, points, depth=12.0, affine=affine, rng=rng)
        inside |= Ellipsoid(centre, _three(axes)).field(points) < 1
    blotches = Waves.random(rng, shortest=18, longest=60, amplitude=1.0, waves=16).on_grid(affine, shape)
    return lung & inside & (blotches > -0.35)


def _inner_point(
    organ: NDArray[np.bool_], points: Field, *, depth: float, affine: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """A point of an organ that lies ``depth`` mm below its surface, or as deep as there is."""
    if not organ.any():
        raise ValueError("the organ of the finding is not on the grid")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    distance = ndimage.distance_transform_edt(organ, sampling=spacing)
    candidates = np.argwhere(organ & (distance >= min(depth, 0.95 * float(distance.max()))))
    x, y, z = candidates[int(rng.integers(len(candidates)))]
    return _three(points[:, x, y, z])


def _three(values: NDArray[np.floating]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
