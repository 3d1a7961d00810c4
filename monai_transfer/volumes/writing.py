"""Writing volumes: NIfTI on the native grid with the input's header, compressed on all cores, never half a file."""

import io
import os
import struct
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from numpy.typing import NDArray

from monai_transfer.files import replacing
from monai_transfer.volumes.grids import shear_of
from monai_transfer.volumes.gzipped import crc32, deflated
from monai_transfer.volumes.volume import Volume

CHUNK = 4 << 20
"""Bytes that a thread compresses at a time: so large that losing the history between them costs nothing."""

_PERPENDICULAR = 1e-5
"""Cosine between two axes that float32 rounding explains; beyond it a qform would bend the grid."""


class FastGzip(io.RawIOBase):
    """A gzip stream whose chunks are deflated by several threads; one ordinary member, readable by everything.

    Each chunk is an independent run of deflate blocks, flushed to a byte boundary, so that the runs can be joined.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
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
        self.check = crc32(data, self.check)
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
        self.file.write(struct.pack("<II", self.check, self.size & 0xFFFFFFFF))
        super().close()

    def _compress(self, data: bytes, *, last: bool = False) -> None:
        self.jobs.append(self.pool.submit(deflated, data, last=last))
        while len(self.jobs) > 2 * (os.cpu_count() or 1):
            self.file.write(self.jobs.popleft().result())


def write_volume(
    array: NDArray[Any],
    path: Path,
    *,
    like: Volume | None = None,
    affine: NDArray[np.float64] | None = None,
    slope: float = 1.0,
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

    Raises:
        OSError: the file cannot be written.
    """
    image = _nifti(array, like, affine, slope=slope)
    with replacing(path) as file:
        if path.name.endswith(".gz"):
            with FastGzip(file) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _nifti(
    array: NDArray[Any], like: Volume | None, affine: NDArray[np.float64] | None, *, slope: float
) -> nibabel.Nifti1Image:
    header = like.header if like is not None else None
    # NIfTI-1 counts voxels in 16 bits.
    nifti2 = max(array.shape) > np.iinfo(np.int16).max or isinstance(header, nibabel.Nifti2Header)
    kind = nibabel.Nifti2Image if nifti2 else nibabel.Nifti1Image
    if header is not None:
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
    image.header["cal_min"] = image.header["cal_max"] = 0
    return image
