"""The one door through which volumes come in, whatever their format and whoever asks, and go out.

What is written on the grid of an input has its header, is compressed on all cores, and is never half a file. Intel's
ISA-L packs four to eight times faster than zlib's quickest level: label maps into half the bytes, noisy images into 5 %
more. What it writes is ordinary deflate.
"""

import io
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from monai_transfer.files import replacing
from monai_transfer.text import line_of, listening
from monai_transfer.volumes.guards import is_dicom, require_file, require_usable
from monai_transfer.volumes.itk_files import META_SUFFIXES, NRRD_SUFFIXES, read_with_itk
from monai_transfer.volumes.nifti import MGH_SUFFIXES, NIFTI_SUFFIXES, read_mgh, read_nifti
from monai_transfer.volumes.pictures import PICTURE_SUFFIXES, read_picture
from monai_transfer.volumes.volume import Note, Reading, Volume, VolumeError, damaged, same_grid, shear_of, spacing_of

LEVEL = 1
"""Of ISA-L's 0 to 3: label maps pack 58 to 1 here and 39 to 1 at level 0, for the same time; 2 and 3 gain nothing."""

CHUNK = 4 << 20
"""Bytes that a thread compresses at a time: so large that losing the history between them costs nothing."""

_PERPENDICULAR = 1e-5
"""Cosine between two axes that float32 rounding explains; beyond it a qform would bend the grid."""

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
    heard: list[str] = []
    with listening(heard):
        volume = _read(path, series, reading)
    require_usable(volume)
    said = (Note("library", f"{path}: {sentence}") for sentence in heard)
    return replace(volume, notes=(*volume.notes, *_odd_grid(volume), *said))


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
        raise damaged(path, line_of(error, last=True)) from error
    raise VolumeError("format", f"{path} is of no known format: NIfTI, DICOM, NRRD, MetaImage and MGH are read.")


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


def write_volume(
    array: NDArray[Any],
    path: Path,
    *,
    like: Volume | None = None,
    affine: NDArray[np.float64] | None = None,
    slope: float = 1.0,
    labels: bool = False,
) -> None:
    """Write an array as ``.nii`` or ``.nii.gz``; the file appears when it is complete.

    On the grid of a NIfTI the header is the input's: qform and sform are never computed again, so that the result lies
    on its input to the last bit. Elsewhere both say the affine, or the sform alone where a shear leaves no qform.

    Args:
        array: ``(*native shape)`` or ``(*native shape, channels)``.
        path: the file to write.
        like: the image that the array belongs to.
        affine: voxel to world, RAS mm, ``(4, 4)``, where there is no such image.
        slope: factor that readers multiply the stored values with.
        labels: say in the header that the values are labels (NIfTI's intent code 1002).

    Raises:
        OSError: the file cannot be written.
    """
    image = _nifti(array, like, affine, slope=slope)
    image.header.set_intent("label" if labels else "none")  # and not what the input's header said of the input
    with replacing(path) as file:
        if path.name.endswith(".gz"):
            with FastGzip(file) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _nifti(
    array: NDArray[Any], like: Volume | None, affine: NDArray[np.float64] | None, *, slope: float
) -> nib.Nifti1Image:
    header = like.header if like is not None else None
    # NIfTI-1 counts voxels in 16 bits.
    nifti2 = max(array.shape) > np.iinfo(np.int16).max or isinstance(header, nib.Nifti2Header)
    kind = nib.Nifti2Image if nifti2 else nib.Nifti1Image
    if header is not None:
        # the input's own header, also used by the next product: it is never changed in place
        header = header.copy()
        header.set_data_shape(array.shape)
        image = kind(array, None, header)
    else:
        place = like.affine if like is not None else affine
        if place is None:
            raise ValueError("write_volume needs like or affine")
        image = kind(array, place)
        image.header.set_xyzt_units("mm")
        image.set_sform(place, 1)
        image.set_qform(place, 0 if shear_of(place) > _PERPENDICULAR else 1)
    image.header.set_data_dtype(array.dtype)
    image.header.set_slope_inter(slope, 0.0)
    # the display range of the image would show every label white
    image.header["cal_min"] = image.header["cal_max"] = 0
    return image


class FastGzip(io.RawIOBase):
    """A gzip stream whose chunks are deflated by several threads; one ordinary member, readable by everything.

    Each chunk is an independent run of deflate blocks, flushed to a byte boundary, so that the runs can be joined.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.pending, self.size, self.check = bytearray(), 0, 0
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self.jobs: deque[Future[bytes]] = deque()
        # a gzip header without a name and without a time: equal inputs give equal files
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\x04\xff")

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """False: nibabel then writes from front to back."""
        return False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Forward only, filling up with zeros.

        Raises:
            OSError: for any other seek.
        """
        if whence != os.SEEK_SET or offset < self.size:
            raise OSError("a gzip stream is written from front to back")
        self.write(bytes(offset - self.size))
        return offset

    def tell(self) -> int:
        """Uncompressed bytes so far."""
        return self.size

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take bytes; full chunks are compressed in the background."""
        self.pending += data
        self.size += len(data)
        self.check = int(isal_zlib.crc32(data, self.check))
        while len(self.pending) >= CHUNK:
            self._compress(bytes(self.pending[:CHUNK]))
            del self.pending[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Write what is pending and the trailer; the file itself stays open."""
        if self.closed:
            return
        self._compress(bytes(self.pending), last=True)
        while self.jobs:
            self.file.write(self.jobs.popleft().result())
        self.pool.shutdown()
        # a gzip's trailer has the size modulo 2**32
        self.file.write(struct.pack("<II", self.check, self.size & 0xFFFFFFFF))
        super().close()

    def _compress(self, data: bytes, *, last: bool = False) -> None:
        self.jobs.append(self.pool.submit(_deflated, data, last=last))
        while len(self.jobs) > 2 * (os.cpu_count() or 1):
            self.file.write(self.jobs.popleft().result())


def _deflated(data: bytes, *, last: bool) -> bytes:
    """A run of deflate blocks that ends at a whole byte, so that runs packed apart can be joined.

    Args:
        data: the bytes to pack.
        last: whether the stream ends with them.
    """
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    packed: bytes = packer.compress(data) + packer.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_SYNC_FLUSH)
    return packed
