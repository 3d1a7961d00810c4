"""Label maps beside their images: finding them, and bringing them to the same order of axes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from monai_transfer.datasets.label_values import as_labels
from monai_transfer.errors import UserError
from monai_transfer.losses import class_dice
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume, same_grid

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".seg.nrrd")


def label_map_of(case: str, predictions: Path | Mapping[str, Path]) -> Path | None:
    """Return the label map of ``case`` in a folder (``case.nii.gz``) or a mapping, None when there is none."""
    if isinstance(predictions, Mapping):
        return predictions.get(case)
    candidates = (Path(predictions) / f"{case}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_single(
    path: Path,
    *,
    first_channel: bool = False,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Volume:
    """Read a volume of three axes and one channel.

    Args:
        path: the file.
        first_channel: accept several channels, of which the caller uses the first, as pictures do.
        reading: how strictly.

    Raises:
        UserError: when it cannot be read or has other axes or several channels.
    """
    volume = read_volume(path, reading=reading)
    if len(volume.shape) != 3:
        raise UserError(f"{path} is a picture of two axes: give a volume with several slices.")
    if len(volume.array) > 1 and not first_channel:
        raise UserError(f"{path} has {len(volume.array)} volumes or channels: give one volume a file.")
    return volume


def read_like(path: Path, like: Volume, *, reading: Reading = Reading()) -> NDArray[np.uint16]:  # noqa: B008 (frozen)
    """Read the labels of ``path`` in the order of axes of ``like``; nothing is ever resampled.

    Args:
        path: a label map.
        like: the volume on whose grid it must lie, up to order and direction of axes.
        reading: how strictly.

    Returns:
        Labels, ``(x, y, z)``.

    Raises:
        UserError: when it cannot be read, lies on another grid, or holds probabilities or other values that are no
            labels.
    """
    volume = read_single(path, reading=reading).turned_like(like.affine)
    if volume.shape != like.shape:
        raise UserError(
            f"{path} has shape {_times(volume.shape)} but {like.path} has {_times(like.shape)}: put both on one grid."
        )
    if not same_grid(volume.affine, like.affine, like.shape):
        raise UserError(
            f"{path} lies elsewhere in space than {like.path} (their affines differ): put both on one grid."
        )
    return as_labels(path, volume.array[0])[0]


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)


def label_dice(
    labels: NDArray[Any],
    truth: Path,
    volume: Volume,
    names: Mapping[int, str],
    *,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> dict[str, float]:
    """Dice of each label of a volume, by name; a label that is neither in the label map nor in the truth is left out.

    Args:
        labels: the label map on the grid of the volume.
        truth: file of the true label map.
        volume: what was segmented.
        names: value -> name.
        reading: how strictly.

    Raises:
        UserError: the truth cannot be read, or lies on another grid.
    """
    true = read_like(truth, volume, reading=reading).astype(np.int64)
    classes = 1 + max(*names, int(true.max()))
    dice = class_dice(torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(true), classes)
    return {name: float(dice[value]) for value, name in names.items() if math.isfinite(float(dice[value]))}
