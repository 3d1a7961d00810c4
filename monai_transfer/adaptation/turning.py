"""An atlas turned as the labels are over which it lies: a body may lie on its side, or a head be bowed."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

Vector = NDArray[np.float64]

_LEAST_TURN = 8.0
"""Degrees by which a body must be turned; less is within the blur of the atlas, and what bodies differ by."""

_TURNING, _POINTS, _TRIALS = 12, 1000, 150
"""Classes, and voxels of all of them, by which an atlas is turned, and turns that are tried."""


def turned_atlas(
    share: Tensor, worth: Tensor, found: Tensor, first: Sequence[int], corner: Sequence[int], *, order: Sequence[int]
) -> tuple[Tensor, float] | None:
    """How an atlas is turned so that the labels have the greatest shares where they lie.

    Args:
        share: of each class by place, ``(classes - 1, *canvas)``.
        worth: what a hit is worth, of the same shape.
        found: above 0 where a class is predicted, ``(classes - 1, *box)``.
        first: voxel of the prediction at which this box begins.
        corner: voxel of the prediction at which the atlas's first corner lies.
        order: numbers of the classes by which it may be turned, the first ones first.

    Returns:
        The map from voxels of the prediction to those of the atlas, ``(dimensions, dimensions + 1)``, and how many
        times as well the turned atlas matches; ``None`` where the labels are turned by little.
    """
    turning = [number for number in order if bool(found[number].any())][:_TURNING]
    voxels = [found[number].nonzero().cpu().double().numpy() + np.array(first) for number in turning]
    points = [each[:: -(-len(each) * len(turning) // _POINTS)].T for each in voxels]
    shares, worths = ([maps[number].numpy() for number in turning] for maps in (share, worth))
    middle = np.mean([each.mean(1) for each in points], 0)
    ndim, angles = len(middle), 3 if len(middle) == 3 else 1

    def motion(by: Vector) -> tuple[Vector, Vector]:
        turn = Rotation.from_rotvec(np.pad(by[:angles], (3 - angles, 0)), degrees=True).as_matrix()[:ndim, :ndim]
        return turn, middle - corner + by[angles:] - turn @ middle

    def hits(maps: Sequence[Vector], by: Vector) -> float:
        turn, shift = motion(by)
        places = [turn @ each + shift[:, None] for each in points]
        found = [ndimage.map_coordinates(*each, order=1).mean() for each in zip(maps, places, strict=True)]
        return float(np.mean(found))

    upright, how = np.zeros(angles + ndim), {"xtol": 0.5, "ftol": 1e-3, "maxfev": _TRIALS}
    by = minimize(lambda values: 1 - hits(shares, values), upright, method="Powell", options=how).x
    if np.linalg.norm(by[:angles]) < _LEAST_TURN or hits(shares, by) <= hits(shares, upright):
        return None
    more = hits(worths, by) / max(hits(worths, upright), 1e-6)
    return torch.from_numpy(np.column_stack(motion(by))).float(), more
