"""The connected pieces of a label, whose voxels touch by a face, an edge or a corner."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SPECKS = 0.005
"""Share of a label beside its largest piece that is the work of a slipped pencil and no piece."""


def keep_pieces(mask: NDArray[np.bool_], *, only_largest: bool, smallest: float = 0.0) -> NDArray[np.bool_]:
    """The pieces of a mask that have ``smallest`` voxels, or the largest of them only.

    Example:
        >>> keep_pieces(np.array([True, False, True, True]), only_largest=True).tolist()
        [False, False, True, True]
    """
    pieces, sizes = _pieces(mask)
    keep = sizes >= max(smallest, 1)
    if only_largest:
        last = len(sizes) - 1 - sizes[::-1].argmax()  # of equal ones, as MONAI does
        keep &= np.arange(len(sizes)) == last
    return np.asarray(keep[pieces])


def in_one_piece(labels: NDArray[Any]) -> frozenset[int]:
    """The values of a label map ``(X, Y, Z)`` whose voxels hang together, but for specks.

    Example:
        >>> sorted(in_one_piece(np.array([[1, 1, 0, 2], [0, 0, 0, 0], [1, 0, 3, 3]])))
        [2, 3]
    """
    found = set()
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            _, sizes = _pieces(labels[box] == number)
            if sizes.max() >= (1 - SPECKS) * sizes.sum():
                found.add(number)
    return frozenset(found)


def _pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The number of the piece of each voxel, and the voxels of each, none of them for number 0, the background."""
    pieces, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return pieces, sizes
