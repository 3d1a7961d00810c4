"""Writing label maps: NIfTI on the native grid with the input's header, compressed on all cores, never half a file."""

import io
import os
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np

from monai_transfer.files import replacing
from monai_transfer.volumes.reading import Volume

LEVEL = 1
CHUNK = 4 << 20


class FastGzip(io.RawIOBase):
    """A gzip stream whose chunks are deflated by several threads; one ordinary member, readable by everything.

    Each chunk is an independent run of deflate blocks, flushed to a byte boundary, so that the runs can be joined.
    """

    def __init__(self, file: BinaryIO, *, level: int = LEVEL) -> None:
        self.file, self.level = file, level
        self.pending, self.size, self.check = bytearray(), 0, 0
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self.jobs: deque[Future[bytes]] = deque()
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
        self.check = zlib.crc32(data, self.check)
        while len(self.pending) >= CHUNK:
            self._compress(bytes(self.pending[:CHUNK]))
            del self.pending[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Write what is pending and the trailer; the file itself stays open."""
        if self.closed:
            return
        self._compress(bytes(self.pending), mode=zlib.Z_FINISH)
        while self.jobs:
            self.file.write(self.jobs.popleft().result())
        self.pool.shutdown()
        self.file.write(struct.pack("<II", self.check, self.size & 0xFFFFFFFF))
        super().close()

    def _compress(self, data: bytes, mode: int = zlib.Z_SYNC_FLUSH) -> None:
        self.jobs.append(self.pool.submit(_deflate, data, self.level, mode))
        while len(self.jobs) > 2 * (os.cpu_count() or 1):
            self.file.write(self.jobs.popleft().result())


def _deflate(data: bytes, level: int, mode: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(mode)


def write_like(array: np.ndarray, volume: Volume, path: Path, *, slope: float = 1.0) -> None:
    """Write an array on the native grid of ``volume`` as ``.nii`` or ``.nii.gz``.

    The header is the input's where that was NIfTI: qform and sform with their codes, units and extensions are kept.

    Args:
        array: (*native shape) or (*native shape, channels).
        volume: the image that the array belongs to.
        path: the file to write; it appears when it is complete.
        slope: factor that readers multiply the stored values with.
    """
    image = nifti_like(array, volume, slope=slope)
    with replacing(path) as file:
        if path.name.endswith(".gz"):
            with FastGzip(file) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def nifti_like(array: np.ndarray, volume: Volume, *, slope: float = 1.0) -> nibabel.Nifti1Image:
    """The NIfTI image of an array on the grid of ``volume``, with its header."""
    large = max(array.shape) > np.iinfo(np.int16).max
    nifti2 = large or isinstance(volume.header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if nifti2 else nibabel.Nifti1Image
    affine = np.eye(4)
    rank = len(volume.affine) - 1
    affine[:rank, :rank], affine[:rank, -1] = volume.affine[:-1, :-1], volume.affine[:-1, -1]
    if volume.header is None:
        image = kind(array, affine)
        image.header.set_xyzt_units("mm")
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
    else:
        header = volume.header.copy()
        header.set_data_shape(array.shape)
        image = kind(array, None, header)
    image.header.set_data_dtype(array.dtype)
    image.header.set_slope_inter(slope, 0.0)
    image.header["cal_min"] = image.header["cal_max"] = 0
    return image
