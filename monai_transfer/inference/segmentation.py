"""The result of segmenting one volume: its labels are mended, measured and handed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Transform
from scipy import ndimage

from monai_transfer.errors import UserError
from monai_transfer.inference.options import Cleaning
from monai_transfer.inference.results import PROBABILITY_SCALE
from monai_transfer.volumes.volume import Volume


@dataclass
class Segmentation:
    """The result for one volume, on its native grid.

    Attributes:
        labels: (*native shape) of uint8 or uint16; with overlapping (sigmoid) labels one 0/1 mask per label,
            (*native shape, labels).
        affine: voxel to RAS millimetres.
        label_names: name of each label number; of each mask, counted from 0, where labels overlap.
        volumes_ml: millilitres per label name, the background left out.
        seconds: spent on ``read``, ``preprocess``, ``network`` and ``restore``.
        windows: windows computed, and windows in all.
        probabilities: (labels, *native shape), float32, when asked for.
        entropy: (*native shape), 0 certain to 1, when asked for.
        source: the image as it was read.
    """

    labels: np.ndarray
    affine: np.ndarray
    label_names: dict[int, str]
    volumes_ml: dict[str, float]
    seconds: dict[str, float]
    windows: tuple[int, int]
    source: Volume = field(repr=False)
    stored_probabilities: np.ndarray | None = field(default=None, repr=False)
    entropy: np.ndarray | None = field(default=None, repr=False)

    @property
    def probabilities(self) -> np.ndarray | None:
        """Class probabilities (labels, *native shape) in float32, when they were asked for."""
        if self.stored_probabilities is None:
            return None
        return self.stored_probabilities.astype(np.float32) / PROBABILITY_SCALE


def volumes_ml(labels: np.ndarray, names: dict[int, str], voxel_ml: float, *, overlapping: bool) -> dict[str, float]:
    """Millilitres per label name, the background left out; per mask where labels overlap."""
    if overlapping:
        return {names[n]: round(float(mask.sum(dtype=np.int64)) * voxel_ml, 4) for n, mask in enumerate(labels)}
    flat = torch.from_numpy(labels.ravel(order="K").view(np.int16 if labels.itemsize == 2 else np.uint8))
    counts = torch.bincount(flat, minlength=max(names, default=0) + 1).tolist()
    return {name: round(float(counts[n]) * voxel_ml, 4) for n, name in names.items() if n}


def with_values_of(labels: np.ndarray, values: Sequence[int] | None) -> np.ndarray:
    """Class numbers replaced by the values that the classes have in label maps, uint8 or uint16."""
    if values is None:
        return labels
    table = np.array(values, np.uint8 if max(values) < 256 else np.uint16)
    return np.asarray(table[labels])


def apply_after(transform: Transform, labels: np.ndarray, volume: Volume) -> np.ndarray:
    """Run a transform of the bundle's postprocessing on the finished labels."""
    key = getattr(transform, "keys", ("pred",))[0]
    channels = labels if labels.ndim > len(volume.shape) else labels[None]
    tensor = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(channels).astype(np.float32)), affine=torch.from_numpy(volume.affine)
    )
    result = np.asarray(transform({key: tensor})[key]).astype(labels.dtype)
    return result if labels.ndim > len(volume.shape) else result[0]


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
