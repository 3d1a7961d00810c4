"""What is mended in a finished label map: pieces, holes."""

from collections.abc import Collection, Mapping

import numpy as np
from monai.transforms import KeepLargestConnectedComponent, Transform
from scipy import ndimage

from monai_transfer.datasets.label_values import keep_pieces
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
    named = set(cleaning.largest_component)
    require_labels(named - {"all"}, label_names)
    single = [number for number in range(1, int(labels.max(initial=0)) + 1) if {"all", label_names.get(number)} & named]
    _mend(labels, single, smallest=cleaning.smallest_ml / voxel_ml, fill_holes=cleaning.fill_holes)


def single_pieces_of(transform: Transform) -> tuple[int, ...]:
    """The classes of which a transform keeps the largest piece, each by itself, where it does no more than that."""
    one = getattr(transform, "converter", None)
    if not isinstance(one, KeepLargestConnectedComponent) or one.is_onehot or not one.independent:
        return ()
    return tuple(one.applied_labels or ()) if one.num_components == 1 and one.connectivity in (None, 3) else ()


def keep_single_pieces(labels: np.ndarray, classes: Collection[int]) -> None:
    """Leave the largest piece alone of some classes of a label map ``(X, Y, Z)``, in place.

    As MONAI's ``KeepLargestConnectedComponent`` does with ``independent=True``, but within the box of each class.
    """
    _mend(labels, classes)


def _mend(labels: np.ndarray, single: Collection[int], *, smallest: float = 0.0, fill_holes: bool = False) -> None:
    """In the box of each class, in place: one piece of those in ``single``, no piece of fewer voxels, no holes."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or not (fill_holes or smallest > 0 or number in single):
            continue
        part = labels[box]
        mask = kept = part == number
        if number in single or smallest > 0:
            kept = keep_pieces(mask, only_largest=number in single, smallest=smallest)
            part[mask & ~kept] = 0
        if fill_holes:
            part[ndimage.binary_fill_holes(kept) & (part == 0)] = number
