"""Mending a finished label map: largest components, holes, specks."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from monai_transfer.errors import UserError
from monai_transfer.options import validated


@validated
class Cleaning:
    """What is mended.

    Attributes:
        largest_component: names of labels of which only the largest connected piece is kept; ``("all",)`` for all.
        fill_holes: give background that one label encloses to that label.
        smallest_ml: pieces smaller than this many millilitres become background.
    """

    largest_component: tuple[str, ...] = ()
    fill_holes: bool = False
    smallest_ml: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    def __bool__(self) -> bool:
        return bool(self.largest_component) or self.fill_holes or self.smallest_ml > 0


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
    unknown = set(cleaning.largest_component) - {"all", *label_names.values()}
    if unknown:
        raise UserError(f"There is no label '{min(unknown)}'; the bundle has {', '.join(label_names.values())}.")
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
