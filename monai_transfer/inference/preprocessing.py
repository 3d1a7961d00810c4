"""A bundle's own preprocessing, with the slow parts done faster and to the same result, after a look at the memory."""

import math

import nibabel
import nibabel.affines
import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd, Spacingd, Transform

from monai_transfer.errors import UserError
from monai_transfer.inference.resampling import spacing
from monai_transfer.machine import free_memory
from monai_transfer.volumes.volume import Volume

_COPIES = 3
"""Times that the working image exists at most while it is preprocessed: before a step, after it, and a mask of it."""


def preprocess(
    volume: Volume, transforms: Compose, *, key: str, device: torch.device | str = "cpu", further: int = 0
) -> MetaTensor:
    """Bring a volume onto the working grid.

    The bundle's transforms run one after another; only ``LoadImaged`` and ``EnsureChannelFirstd`` are left out (the
    volume is already read) and ``Spacingd`` with linear or nearest interpolation along the axes is computed plane by
    plane from the file's own number type. Everything else, and everything in a ``Compose`` that is lazy, is MONAI's.

    Args:
        volume: the image.
        transforms: the bundle's ``preprocessing``.
        key: under which the transforms find the image.
        device: where they run.
        further: bytes that the caller will take beside the working image, for the look at the free memory.

    Returns:
        the image (C, *working shape), with the trace that leads back.

    Raises:
        UserError: when the transforms leave nothing of the image, or the memory does not suffice for it.
    """
    if torch.device(device).type == "cpu":  # a GPU that is full says so itself
        _require_memory(volume, transforms, further)
    steps = list(transforms.flatten().transforms)
    if isinstance(steps[0], LoadImaged):
        steps = [s for s in steps[1:] if not isinstance(s, EnsureChannelFirstd)]  # the channels are first already
    integers = not transforms.lazy and _resamples_first(steps)
    data: dict = {key: volume.tensor(keep_integers=integers, device=device)}
    if transforms.lazy:
        data = Compose(steps, lazy=transforms.lazy)(data)
    else:
        for step in steps:
            data = spacing(data, step) if isinstance(step, Spacingd) else step(data)  # type: ignore[operator]
    image = data[key]
    if 0 in image.shape:
        raise UserError(f"{volume.path} is empty after the bundle's preprocessing; is it an image of the right kind?")
    return image


def _resamples_first(steps: list[Transform]) -> bool:
    """Whether only transforms that move voxels about come before the resampling, so that integers may stay integers."""
    for step in steps:
        if isinstance(step, Spacingd):
            return True
        typed = isinstance(step, EnsureTyped) and step.converter.dtype is None
        if not typed and not isinstance(step, Orientationd):
            return False
    return False


def working_shape(volume: Volume, preprocessing: Compose) -> tuple[int, ...]:
    """Voxels of the working grid, along the axes of the file: the native ones where nothing is resampled."""
    spacings = [
        step.spacing_transform.pixdim for step in preprocessing.flatten().transforms if isinstance(step, Spacingd)
    ]
    shape = np.asarray(volume.shape, dtype=float)
    if not spacings:
        return volume.shape
    steps = np.resize(np.asarray(spacings[0], dtype=float), len(shape))
    zooms = nibabel.affines.voxel_sizes(volume.affine)[: len(shape)]
    if len(shape) == 3:  # the working axes are those of the body, left to right first
        steps = steps[nibabel.io_orientation(volume.affine)[:, 0].astype(int)]
    ratio = np.where(np.isfinite(steps) & (steps > 0), zooms / np.where(steps > 0, steps, 1), 1)
    return tuple(int(n) for n in np.maximum(np.ceil(shape * ratio), 1))


def _require_memory(volume: Volume, preprocessing: Compose, further: int) -> None:
    shape = working_shape(volume, preprocessing)
    needed = 4 * _COPIES * len(volume.array) * math.prod(shape) + further
    free = free_memory()
    if needed > free:
        zooms = " × ".join(f"{z:.3g}" for z in nibabel.affines.voxel_sizes(volume.affine))
        raise UserError(
            f"{volume.path} becomes a working grid of {' × '.join(map(str, shape))} voxels, which takes about "
            f"{needed / 1e9:.1f} GB of memory while {free / 1e9:.1f} GB are free; check the size of its voxels "
            f"({zooms} mm), or use a larger machine."
        )
