"""The result of segmenting one volume."""

from dataclasses import dataclass, field

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Transform

from monai_transfer.inference.sinks import PROBABILITY_SCALE
from monai_transfer.volumes.reading import Volume


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


def apply_after(transform: Transform, labels: np.ndarray, volume: Volume) -> np.ndarray:
    """Run a transform of the bundle's postprocessing on the finished labels."""
    key = getattr(transform, "keys", ("pred",))[0]
    channels = labels if labels.ndim > len(volume.shape) else labels[None]
    tensor = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(channels).astype(np.float32)), affine=torch.from_numpy(volume.affine)
    )
    result = np.asarray(transform({key: tensor})[key]).astype(labels.dtype)
    return result if labels.ndim > len(volume.shape) else result[0]
