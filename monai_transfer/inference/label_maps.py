"""Finished labels on the native grid: counted, given their values, and what a bundle asks to be done with them."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Transform

from monai_transfer.volumes.volume import Volume


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
