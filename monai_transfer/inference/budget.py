"""What a volume will take, before it is taken: memory on the way, room on the disk at the end."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import nibabel.affines
import numpy as np
from monai.transforms import Compose, Spacingd

from monai_transfer.errors import UserError
from monai_transfer.machine import free_memory
from monai_transfer.volumes.reading import Volume

_COPIES = 3
"""Times that the working image exists at most while it is preprocessed: before a step, after it, and a mask of it."""

_HELD = 2 << 30
"""Bytes of probabilities that are held in memory; more lie in a temporary file (see ``sinks``)."""

_PACKED = {"labels": 0.001, "probabilities": 0.1, "uncertainty": 0.3}
"""Share of its bytes that a compressed result takes at the very least; measured label maps take ten times that."""


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


def require_memory(
    volume: Volume, preprocessing: Compose, *, roi: Sequence[int], classes: int, overlapping: bool, extra: int
) -> None:
    """Compare what a volume takes with the memory that is free.

    Args:
        volume: the image, which is in memory already.
        preprocessing: of the bundle.
        roi: the window; as thick as its longest side is the slab of logits.
        classes: output channels of all members of the ensemble.
        overlapping: whether there is one mask per class.
        extra: bytes per native voxel of what is kept beside the labels.

    Raises:
        UserError: with the working grid and the gigabytes.
    """
    shape = working_shape(volume, preprocessing)
    voxels, native = math.prod(shape), math.prod(volume.shape)
    slab = 4 * classes * min(max(roi), max(shape)) * voxels // max(shape)
    labels = 2 * native * (classes if overlapping else 1)  # once in streaming order, once as they lie in the file
    needed = 4 * _COPIES * len(volume.array) * voxels + slab + labels + min(native * extra, _HELD)
    free = free_memory()
    if needed > free:
        zooms = " × ".join(f"{z:.3g}" for z in nibabel.affines.voxel_sizes(volume.affine))
        raise UserError(
            f"{volume.path} becomes a working grid of {' × '.join(map(str, shape))} voxels, which takes about "
            f"{needed / 1e9:.1f} GB of memory while {free / 1e9:.1f} GB are free; check the size of its voxels "
            f"({zooms} mm), or use a larger machine."
        )


def require_disk(folder: Path, volume: Volume, *, classes: int, probabilities: bool, uncertainty: bool) -> None:
    """Compare the least that the results of a volume take with the room on the disk.

    Raises:
        UserError: with the numbers.
    """
    native = math.prod(volume.shape)
    needed = native * _PACKED["labels"]
    needed += 2 * classes * native * _PACKED["probabilities"] if probabilities else 0
    needed += 4 * native * _PACKED["uncertainty"] if uncertainty else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"The results of {volume.path} take at least {needed / 1e6:.1f} MB while {free / 1e6:.1f} MB are free in "
            f"{folder}; free some space or choose another --output."
        )
