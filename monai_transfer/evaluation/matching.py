"""Label maps beside their images: finding them, and bringing them to the same order of axes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_transfer.errors import UserError
from monai_transfer.volumes.grids import largest_shift, same_grid_tolerance
from monai_transfer.volumes.scalar import Volume, VolumeFaultError, read_volume

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".seg.nrrd")


def label_map_of(case: str, predictions: Path | Mapping[str, Path]) -> Path | None:
    """Return the label map of ``case`` in a folder (``case.nii.gz``) or a mapping, None when there is none."""
    if isinstance(predictions, Mapping):
        return predictions.get(case)
    candidates = (Path(predictions) / f"{case}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_sound(path: Path) -> Volume:
    """Read a volume; what is wrong with it becomes a :class:`UserError`."""
    try:
        return read_volume(path)
    except VolumeFaultError as error:
        raise UserError(str(error)) from error


def read_like(path: Path, like: Volume, *, reference: Path) -> NDArray[Any]:
    """Read the voxels of ``path`` in the order of axes of ``like``; nothing is ever resampled.

    Args:
        path: a label map.
        like: the volume on whose grid it must lie, up to order and direction of axes.
        reference: the file of ``like``, for the message.

    Raises:
        UserError: when it cannot be read or lies on another grid.
    """
    volume = _turned(read_sound(path), like.affine)
    if volume.voxels.shape != like.voxels.shape:
        raise UserError(
            f"{path} has shape {_times(volume.voxels.shape)} but {reference} has {_times(like.voxels.shape)}: "
            "put both on one grid."
        )
    if largest_shift(volume.affine, like.affine, like.voxels.shape) > same_grid_tolerance(like.affine):
        raise UserError(
            f"{path} lies elsewhere in space than {reference} (their affines differ): put both on one grid."
        )
    return volume.voxels


def _turned(volume: Volume, affine: NDArray[np.float64]) -> Volume:
    turn = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), nib.io_orientation(affine))
    if np.array_equal(turn, [[0, 1], [1, 1], [2, 1]]):
        return volume
    voxels = nib.orientations.apply_orientation(volume.voxels, turn)
    return Volume(voxels, volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.voxels.shape))


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)
