"""The voxels of DICOM frames: decoded by pydicom, by ITK where pydicom has no codec, and scaled frame by frame."""

import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

from monai_transfer.text import line_of
from monai_transfer.volumes.dicom_frames import Frame
from monai_transfer.volumes.dicom_headers import PLAIN
from monai_transfer.volumes.guards import require_room
from monai_transfer.volumes.volume import VolumeError


def read_pixels(frames: Sequence[Frame], weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
    """The scaled voxels of frames, ``(columns, rows, slices)``.

    Integers stay integers as long as every slope is 1; else the result is float32.

    Args:
        frames: in the order of the slices.
        weights: places of the slices among the frames, where these are to be interpolated linearly.

    Raises:
        VolumeError: the pixels are cut short, damaged, or packed in a way that nothing here unpacks.
    """
    rows, columns = frames[0].storage.shape
    kind = _number_type(frames)
    slices = len(frames) if weights is None else len(frames) + len(weights)
    path = frames[0].path.parent
    # The stored bytes were compared with the claims file by file; here it is the memory that must suffice.
    claimed = rows * columns * slices * kind.itemsize
    require_room(path, claimed, stored=claimed)
    voxels = np.empty((len(frames), rows, columns), kind)
    for number, pixels in _decoded(frames):
        slope, intercept = frames[number].rescale or (1.0, 0.0)
        if kind.kind == "f":
            voxels[number] = pixels * slope + intercept  # float64 until it is stored
        else:
            voxels[number] = pixels.astype(np.int64) + int(intercept)
    if weights is not None:
        voxels = _between(voxels, weights)
    return voxels.T


def _number_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    """The smallest integers that hold every value a frame could have, or float32."""
    scales = {frame.rescale or (1.0, 0.0) for frame in frames}
    if any(slope != 1 or intercept != int(intercept) for slope, intercept in scales):
        return np.dtype(np.float32)
    ranges = [_range(frame) for frame in frames]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    kinds: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64)
    for kind in kinds:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float32)


def _range(frame: Frame) -> tuple[float, float]:
    bits, shift = frame.storage.bits[1], int((frame.rescale or (1.0, 0.0))[1])
    low = -(1 << (bits - 1)) if frame.storage.signed else 0
    return low + shift, low + (1 << bits) - 1 + shift


def _between(voxels: NDArray[Any], places: NDArray[np.float64]) -> NDArray[Any]:
    """Slices at fractional places among ``voxels``, ``(n, rows, columns)``, linearly; integers are rounded."""
    result = np.empty((len(places), *voxels.shape[1:]), voxels.dtype)
    for number, place in enumerate(places):
        before = min(int(place), len(voxels) - 1)
        share = place - before
        if share == 0:
            result[number] = voxels[before]
            continue
        mixed = voxels[before] * (1 - share) + voxels[before + 1] * share
        result[number] = mixed if voxels.dtype.kind == "f" else np.rint(mixed)
    return result


def _decoded(frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Each frame's number in ``frames`` with its stored values, ``(rows, columns)``; every file is opened once."""
    by_file: dict[Path, list[int]] = defaultdict(list)
    for number, frame in enumerate(frames):
        by_file[frame.path].append(number)
    for path, numbers in by_file.items():
        first = frames[numbers[0]]
        indices = [frames[number].index for number in numbers]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks on padding
            try:
                if _needs_itk(first):
                    decoded = _by_itk(path, indices)
                else:
                    decoded = iter_pixels(path, indices=indices if first.storage.frames > 1 else None, raw=True)
                for number, pixels in zip(numbers, decoded, strict=True):
                    if pixels.shape != first.storage.shape:
                        raise ValueError(f"it unpacks to {pixels.shape}")
                    yield number, _used_bits(pixels, first)
            except Exception as error:
                raise VolumeError("unreadable", _undecoded(first, error)) from error


def _used_bits(pixels: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """The values without what old scanners keep in the bits beside them, such as overlays."""
    allocated, used = frame.storage.bits
    spare = allocated - used
    if spare == 0 or pixels.dtype.itemsize * 8 != allocated:
        return pixels
    # Shifting to the top and back clears the spare bits, and carries the sign down where the type has one.
    shifted: NDArray[Any] = np.right_shift(np.left_shift(pixels, spare), spare)
    return shifted


def _needs_itk(frame: Frame) -> bool:
    if frame.storage.syntax in PLAIN:
        return False
    try:
        return not get_decoder(frame.storage.syntax).is_available
    except NotImplementedError:
        return True


def _by_itk(path: Path, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Frames unpacked by ITK's codecs, each from a bare file that holds nothing else of the original."""
    import itk

    full = pydicom.dcmread(path)
    count = int(full.get("NumberOfFrames") or 1)
    packed = list(generate_frames(full.PixelData, number_of_frames=count))
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "frame.dcm"
        for index in indices:
            _bare(full, packed[index]).save_as(bare, enforce_file_format=True)
            yield np.asarray(itk.array_from_image(itk.imread(str(bare)))).squeeze()


def _bare(full: Dataset, packed: bytes) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = full.file_meta.TransferSyntaxUID
    bare = Dataset()
    bare.file_meta = meta
    bare.SOPClassUID, bare.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(bare, name, full[name].value)
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    bare.PixelData = encapsulate([packed])
    bare["PixelData"].is_undefined_length = True
    return bare


def _undecoded(frame: Frame, error: Exception) -> str:
    if frame.storage.syntax not in PLAIN:
        name = UID(frame.storage.syntax).name
        return f"{frame.path} cannot be unpacked (transfer syntax {name!r}): export it uncompressed."
    return f"{frame.path} has pixels that cannot be read ({line_of(error)}): copy or export it again."
