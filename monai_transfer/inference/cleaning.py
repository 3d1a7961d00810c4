"""What is mended in a finished label map: pieces, holes."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from monai_transfer.inference.segmentation import Cleaning, require_labels


def clean(labels: np.ndarray, cleaning: Cleaning, *, label_names: Mapping[int, str], voxel_ml: float) -> None:
    """Mend a label map in place.

    Args:
        labels: (X, Y, Z), 0 is background.
        cleaning: what to mend.
        label_names: name of each label.
        voxel_ml: millilitres of one voxel.

    Raises:
        UserError: when a named label does not exist.
    """
    require_labels(set(cleaning.largest_component) - {"all"}, label_names)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        part = labels[box]
        mask = part == number
        kept = mask
        only_largest = bool({"all", label_names.get(number)} & set(cleaning.largest_component))
        if only_largest or cleaning.smallest_ml > 0:
            kept = keep_pieces(mask, only_largest=only_largest, smallest=cleaning.smallest_ml / voxel_ml)
            part[mask & ~kept] = 0
        if cleaning.fill_holes:
            part[ndimage.binary_fill_holes(kept) & (part == 0)] = number


def keep_pieces(mask: np.ndarray, *, only_largest: bool, smallest: float) -> np.ndarray:
    """The connected pieces (corners count) of a mask that have ``smallest`` voxels, or the largest of them only."""
    pieces, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    keep = sizes >= max(smallest, 1)
    if only_largest:
        keep &= np.arange(count + 1) == sizes.argmax()
    return np.asarray(keep[pieces])
