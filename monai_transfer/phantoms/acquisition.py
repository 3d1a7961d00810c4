"""How a scanner lays its grid over a person: orientation, voxel size, place."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from monai_transfer.phantoms.geometry import rotation_matrix

Modality = Literal["ct", "mr"]

FIELD_OF_VIEW = (292.0, 250.0, 254.0)
"""Extent of a scan from side to side, back to front and feet to head, mm."""

VOXEL_SIZE: dict[Modality, tuple[float, float, float]] = {"ct": (2.6, 2.6, 4.0), "mr": (2.4, 2.8, 3.6)}
"""Mean voxel size, mm."""

DIRECTIONS: dict[Modality, tuple[float, float, float]] = {"ct": (-1.0, -1.0, 1.0), "mr": (1.0, 1.0, 1.0)}
"""CT is stored LPS, MR is stored RAS and lies oblique by a few degrees."""


@dataclass(frozen=True)
class Acquisition:
    """A scan's grid.

    Attributes:
        shape: voxels along each axis.
        affine: voxel to world, RAS mm, ``(4, 4)``.
        body_affine: voxel to body frame, mm, ``(4, 4)``.
        spacing: voxel size, mm, ``(3,)``.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    body_affine: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @classmethod
    def sample(cls, rng: np.random.Generator, *, modality: Modality, size: float = 1.0) -> Self:
        """A grid whose voxel size, tilt and place differ from scan to scan.

        Args:
            rng: where the variation comes from.
            modality: decides orientation and voxel size.
            size: share of the usual number of voxels per axis; the field of view stays, voxels get larger.
        """
        in_plane, through = rng.uniform(0.94, 1.06, 2)
        spacing = np.multiply(VOXEL_SIZE[modality], (in_plane, in_plane, through)) / size
        x, y, z = (max(8, round(extent / step)) for extent, step in zip(FIELD_OF_VIEW, spacing, strict=True))
        shape = (x, y, z)
        tilt = np.radians(rng.uniform(-5, 5, 3)) if modality == "mr" else np.zeros(3)
        axes = rotation_matrix((float(tilt[0]), float(tilt[1]), float(tilt[2]))) * DIRECTIONS[modality]
        body_affine = np.eye(4)
        body_affine[:3, :3] = axes * spacing
        centre = rng.uniform((-5, -4, -14), (5, 4, 4))
        body_affine[:3, 3] = centre - body_affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        table = (-950.0, -350.0) if modality == "ct" else (-40.0, 40.0)
        isocentre = np.array([*rng.uniform(-25, 25, 2), rng.uniform(*table)])
        affine = body_affine.copy()
        affine[:3, 3] += isocentre
        return cls(shape, np.round(affine, 6), body_affine, spacing)
