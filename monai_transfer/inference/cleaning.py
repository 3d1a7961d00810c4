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
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None and number in classes:
            part = labels[box]
            mask = part == number
            part[mask & ~keep_pieces(mask, only_largest=True)] = 0
