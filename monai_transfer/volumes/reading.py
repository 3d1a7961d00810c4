"""The one door through which volumes come in, whatever their format and whoever asks."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_transfer.volumes.guards import degenerate, is_dicom, require_file, require_voxels
from monai_transfer.volumes.itk_files import META_SUFFIXES, NRRD_SUFFIXES, read_with_itk
from monai_transfer.volumes.nifti import (
    MGH_SUFFIXES,
    NIFTI_SUFFIXES,
    read_mgh,
    read_nifti,
)
from monai_transfer.volumes.pictures import PICTURE_SUFFIXES, read_picture
from monai_transfer.volumes.volume import (
    Note,
    Reading,
    Volume,
    VolumeError,
    damaged,
    is_degenerate,
    same_grid,
    shear_of,
    spacing_of,
)

_FORMATS: tuple[tuple[tuple[str, ...], Callable[[Path, Reading], Volume]], ...] = (
    (NIFTI_SUFFIXES, read_nifti),
    (MGH_SUFFIXES, read_mgh),
    ((*NRRD_SUFFIXES, *META_SUFFIXES), read_with_itk),
    (PICTURE_SUFFIXES, read_picture),
)


def read_volume(
    path: Path | Sequence[Path],
    *,
    series: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Volume:
    """Read one image, or refuse it in one sentence.

    A coded sform says how a NIfTI lies, else a coded qform; no result is ever a guess unless ``reading`` allows it.
    Checksums are verified, and nothing is allocated before the header's claims were compared with the file's size
    and with the free memory.

    Args:
        path: a file, a folder with a DICOM series, or one file per channel.
        series: which DICOM series to read where a folder holds several, by the UID that ``find_series`` gives.
        reading: how strictly.

    Returns:
        The volume, its voxels finite, its affine one of a grid.

    Raises:
        VolumeError: the file is missing, damaged, too large, of an unknown format, or no volume of finite numbers that
            says how it lies in space.
    """
    if not isinstance(path, Path):
        # each channel passes the whole door by itself, so that a fault names its file
        return _stack([read_volume(one, reading=reading) for one in path])
    notes: list[Note] = []
    with _listening(path, notes):
        volume = _read(path, series, reading)
    _require_sound(volume)
    return replace(volume, notes=(*volume.notes, *_odd_grid(volume), *notes))


def _read(path: Path, series: str | None, reading: Reading) -> Volume:
    name = path.name.lower()
    read = next((read for suffixes, read in _FORMATS if name.endswith(suffixes)), None)
    try:
        folder = read is None and path.is_dir()
        if not folder:
            require_file(path)
        if read is not None:
            return read(path, reading)
        if folder or is_dicom(path):
            # pydicom is loaded only where DICOM is met
            from monai_transfer.volumes.dicom import read_dicom
            from monai_transfer.volumes.radiographs import is_radiograph, read_radiograph

            if reading.pictures and not folder and is_radiograph(path):
                return read_radiograph(path)
            return read_dicom(path, series=series, reading=reading)
    except VolumeError:
        raise
    except MemoryError as error:
        message = f"{path} needs more memory than is free: crop or resample it, or use a larger machine."
        raise VolumeError("too_large", message) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
        raise damaged(path, reason) from error
    raise VolumeError("format", f"{path} is of no known format: NIfTI, DICOM, NRRD, MetaImage and MGH are read.")


@contextmanager
def _listening(path: Path, notes: list[Note]) -> Iterator[None]:
    """Turn what the libraries would print into notes."""
    heard: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    nibabel = logging.getLogger("nibabel.global")
    kept = nibabel.handlers, nibabel.propagate
    nibabel.handlers, nibabel.propagate = [listener], False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        nibabel.handlers, nibabel.propagate = kept
    heard += [str(warning.message) for warning in caught]
    notes += [Note("library", f"{path}: {' '.join(text.split())}") for text in dict.fromkeys(heard)]


def _stack(volumes: Sequence[Volume]) -> Volume:
    """The volumes as channels of one; each is turned into the orientation of the first."""
    first, notes = volumes[0], list(volumes[0].notes)
    arrays = [first.array]
    for other in volumes[1:]:
        turned = other.turned_like(first.affine)
        if turned.shape != first.shape or not same_grid(turned.affine, first.affine, first.shape):
            message = f"{other.path} lies on another grid than {first.path}: resample it to the same grid."
            raise VolumeError("grid", message)
        if turned is not other:
            message = f"{other.path} is stored in another orientation than {first.path}: it is turned while reading."
            notes.append(Note("orientation", message))
        notes += other.notes
        arrays.append(turned.array)
    return replace(first, array=np.concatenate(arrays), notes=tuple(notes))


def _require_sound(volume: Volume) -> None:
    require_voxels(volume.path, volume.shape)
    if is_degenerate(volume.affine):
        raise degenerate(volume.path, "an affine")
    array = volume.array
    # One sum finds out whether there is anything to count: NaN and infinity survive it.
    if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)):
        bad = array.size - sum(int(np.isfinite(plane).sum()) for channel in array for plane in channel)
        if bad:
            message = (
                f"{volume.path} holds {bad} voxels that are NaN or infinite: replace them by the background's value."
            )
            raise VolumeError("not_finite", message)


def _odd_grid(volume: Volume) -> list[Note]:
    odd = []
    if shear_of(volume.affine) > 1e-3:
        message = (
            f"{volume.path} has a sheared grid: it is taken as it lies, but most viewers show it without the shear."
        )
        odd.append(Note("sheared", message))
    spacing = spacing_of(volume.affine)
    if spacing.min() < 0.05 or spacing.max() > 25:
        sizes = "×".join(f"{size:.4g}" for size in spacing)
        odd.append(Note("spacing", f"{volume.path} has voxels of {sizes} mm: are its units millimetres?"))
    return odd
