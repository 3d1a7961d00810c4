"""A bundle's own preprocessing, with the slow parts done faster and to the same result, after a look at the memory."""

import math
from functools import partial

import nibabel
import nibabel.affines
import numpy as np
import torch
import torch.nn.functional as F
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import AFFINE_TOL
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd, Spacingd, Transform
from monai.utils import LazyAttr
from scipy import ndimage

from monai_transfer.errors import UserError
from monai_transfer.inference.cores import on_all_cores
from monai_transfer.inference.resampling import NotSeparable, Taps, axis_steps, interpolate, linear_matrix
from monai_transfer.machine import free_memory
from monai_transfer.volumes.volume import Volume

BLOCK = 4
"""Voxels along the edge of a block of the body mask: small beside any window, and 64 times fewer than voxels."""

MARGIN = 8
"""Voxels around the body that count as body, so that no window with an organ at its rim is left out."""

SHARE = 0.05
"""Part of the range of intensities within which a block is dark or flat; the noise of air in a CT stays below it."""

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
            spaced = isinstance(step, Spacingd)
            data = spacing(data, step) if spaced else on_all_cores(partial(step, data))  # type: ignore[operator]
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


def spacing(data: dict, transform: Spacingd) -> dict:
    """Do what ``transform`` does to the images in ``data``, in float32 and plane by plane where its axes allow it.

    The metadata and the trace come from MONAI's transform itself (it is asked for a pending operation and the
    operation is then carried out here), so that inverting works as usual.
    """
    result = dict(data)
    for key in transform.key_iterator(result):
        try:
            result[key] = _resample(data[key], transform({key: data[key]}, lazy=True)[key])
        except (NotSeparable, NotImplementedError):
            result[key] = transform({key: data[key]})[key]
    return result


def _resample(image: MetaTensor, pending: MetaTensor) -> MetaTensor:
    (operation,) = pending.pending_operations
    info = operation["extra_info"]
    xform = np.asarray(operation[LazyAttr.AFFINE], dtype=float)
    shape_out = [int(n) for n in operation[LazyAttr.SHAPE]]
    shape_in = [int(n) for n in image.shape[1:]]
    axes, steps = axis_steps(xform)
    identity = np.eye(len(xform))
    unchanged = shape_in == shape_out and (
        np.allclose(xform, identity, atol=AFFINE_TOL)
        or np.allclose(image.affine, pending.peek_pending_affine(), atol=AFFINE_TOL)
    )
    if unchanged or axes != (0, 1, 2):
        raise NotSeparable("MONAI's own transform is the shortest way")
    mode, padding = str(info["mode"]), str(info["padding_mode"])
    taps = [
        Taps.from_matrix(linear_matrix(n_out, n_in, scale, offset, mode=mode, padding=padding))
        for n_out, n_in, (scale, offset) in zip(shape_out, shape_in, steps, strict=True)
    ]
    trace = {k: v for k, v in operation.items() if k not in (LazyAttr.AFFINE, LazyAttr.SHAPE)} | {"lazy": False}
    result = MetaTensor(interpolate(image.as_tensor(), taps), meta=dict(image.meta))
    result.affine = pending.peek_pending_affine()
    result.applied_operations = [*image.applied_operations, trace]
    return result


def body_mask(image: torch.Tensor) -> np.ndarray:
    """Blocks of a volume that may hold tissue.

    A block of 4×4×4 voxels is empty when it is both dark (its brightest voxel lies in the lowest 5 % of the range of
    intensities) and flat (its voxels differ by less than 5 % of that range), in every channel. That is true of air in
    a windowed CT and of masked background; tissue has noise and texture, and so has the air of many MR scans, which
    then counts as body. Empty blocks that body surrounds (lungs, bowel) count as body, and so does a margin of two
    blocks.

    Args:
        image: the preprocessed volume, (C, X, Y, Z).

    Returns:
        bool, (ceil(X / 4), ceil(Y / 4), ceil(Z / 4)).
    """
    kernel = tuple(min(BLOCK, n) for n in image.shape[1:])
    highest = F.max_pool3d(image[None].float(), kernel, BLOCK, ceil_mode=True)[0]
    lowest = -F.max_pool3d(-image[None].float(), kernel, BLOCK, ceil_mode=True)[0]
    floor = lowest.amin(dim=(1, 2, 3), keepdim=True)
    tolerance = SHARE * (highest.amax(dim=(1, 2, 3), keepdim=True) - floor)
    body = ((highest - floor > tolerance) | (highest - lowest > tolerance)).any(dim=0).cpu().numpy()
    filled = ndimage.binary_fill_holes(body)
    return np.asarray(ndimage.binary_dilation(filled, iterations=MARGIN // BLOCK))
