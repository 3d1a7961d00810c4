"""What is asked of a file before its bytes become voxels, in the same words for every format.

It must be a regular file, its claims must be possible, and it must be a volume of grey values that says how it lies.
Packed files are unpacked in memory that was asked for and no more, and their checksums hold; Intel's ISA-L does it two
to three times faster than zlib on one core.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from monai_transfer.machine import free_memory
from monai_transfer.volumes.volume import Note, Reading, Volume, VolumeError, damaged, is_degenerate

GZIP_RATIO = 1032
"""Deflate cannot pack tighter: a run of 258 equal bytes takes two bits at least."""

GZIP, ZLIB = 31, 15
"""What zlib's ``wbits`` asks for: deflate with the header and checksum of a gzip, or with zlib's own."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

_LARGEST_SHARE = 0.9
"""Share of the free memory that one volume may take; the rest is for what is done with it."""

_POINTERS = {b"version https://git-lfs.github.com/spec/": "git lfs pull", b"/annex/objects/": "git annex get"}
"""How the small text files begin that stand for a volume which was not fetched, and how to fetch it."""

_PIECE = 1 << 20
"""Bytes unpacked at a time: small against any volume, large against the cost of a call."""

_SURPLUS = 1 << 20
"""Bytes that may follow the voxels: some programs pad their files, and a bomb does not stop here."""


def require_file(path: Path) -> None:
    """Make sure that opening a path opens a regular file, so that no pipe or device is ever waited for.

    Raises:
        VolumeError: the file is missing, not a regular file, not fetched, or may not be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise VolumeError("missing", _missing(path)) from error
    if not stat.S_ISREG(status.st_mode):
        raise VolumeError("not_a_file", f"{path} is a {_kind(status.st_mode)} and no file: name a volume's file.")
    if status.st_size == 0:  # as are the kernel's own, some of which wait for ever
        raise damaged(path, "it is empty")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        message = f"{path} cannot be opened ({error.strerror}): give yourself the right to read it."
        raise VolumeError("unreadable", message) from error
    for pointer, remedy in _POINTERS.items():
        if start.startswith(pointer):
            raise VolumeError("missing", f"{path} only points to a file that was not fetched: run {remedy}.")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its signature, or says so by its name."""
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def require_room(path: Path, claimed: int, *, stored: int, ratio: int = 1, working: int = 0) -> None:
    """Compare what a header claims with the bytes that are there and with the free memory.

    Args:
        path: the file, for the message.
        claimed: bytes of voxels that the header speaks of.
        stored: bytes that hold them.
        ratio: how many times more the stored bytes can become when they are unpacked.
        working: further bytes that reading takes.

    Raises:
        VolumeError: the claim is impossible or too large.
    """
    if claimed > stored * ratio:
        raise damaged(path, f"it claims {_size(claimed)} of voxels, which its {_size(stored)} cannot hold")
    free = free_memory()
    if claimed + working > _LARGEST_SHARE * free:
        raise VolumeError(
            "too_large",
            f"{path} needs {_size(claimed + working)} of memory but only {_size(free)} are free: crop or resample it, "
            "or use a larger machine.",
        )


def require_grey(path: Path, *, components: int, is_complex: bool) -> None:
    """Refuse colours and complex numbers, in the same words for every format.

    Raises:
        VolumeError: the voxels are not single real numbers.
    """
    if components > 1:
        message = f"{path} holds {components} values per voxel (a colour picture): give the scan itself in grey values."
        raise VolumeError("colour", message)
    if is_complex:
        raise VolumeError("complex", f"{path} holds complex numbers: export the magnitude image.")


def require_voxels(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse what has no voxels, a single slice, or axes beyond one for channels; a picture of two axes may pass.

    Raises:
        VolumeError: the shape is none of a volume.
    """
    sizes = "×".join(map(str, shape)) or "none"
    if not shape or min(shape) < 1:
        raise VolumeError("empty", f"{path} has no voxels (shape {sizes}): export it again.")
    if len(shape) < 2 or 1 in shape[:3]:
        raise VolumeError("not_3d", f"{path} is a single slice ({sizes}): give a volume with several slices.")
    if any(size > 1 for size in shape[4:]):
        message = f"{path} is {len(shape)}D ({sizes}): split it into 3D volumes, one file each."
        raise VolumeError("not_3d", message)


def require_usable(volume: Volume) -> None:
    """Refuse what was read and is no volume of finite numbers on a grid.

    Raises:
        VolumeError: naming what is wrong.
    """
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


def unplaced(path: Path, reading: Reading) -> Note:
    """The note of a file that does not say how it lies in space.

    Raises:
        VolumeError: guesses are not wanted.
    """
    if reading.assume_affine:
        message = f"{path} does not say how it lies in space: its own guess is taken, left and right may be swapped."
        return Note("no_orientation", message)
    raise VolumeError(
        "no_orientation",
        f"{path} does not say how it lies in space (no valid affine code): export it again, or take its "
        "guess with --assume-affine.",
    )


def degenerate(path: Path, what: str) -> VolumeError:
    """The error of an affine that cannot be used; it is never replaced by a guess."""
    message = f"{path} has {what} that is not a grid in space (zero, flat, huge or not finite): export it again."
    return VolumeError("affine", message)


def unpacked_start(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of what a gzip file holds, or fewer where it holds fewer."""
    start = bytearray()
    for piece in _pieces(path, most=size):
        start += piece
        if len(start) >= size:
            break
    return bytes(start[:size])


def unpacked(path: Path, size: int, *, offset: int = 0, wbits: int = GZIP) -> NDArray[np.uint8]:
    """Unpack ``size`` bytes and verify the checksums of the whole file.

    Args:
        path: a gzip file of one or more members.
        size: bytes that it should hold.
        offset: where in the file the packed stream begins.
        wbits: how it is packed, :data:`GZIP` or :data:`ZLIB`.

    Raises:
        VolumeError: the file is not so packed, is cut off, holds much more than ``size``, or a checksum is wrong.
    """
    data = np.empty(size, np.uint8)
    found = 0
    for piece in _pieces(path, offset=offset, wbits=wbits):
        kept = piece[: max(0, size - found)]
        data[found : found + len(kept)] = np.frombuffer(kept, np.uint8)
        found += len(piece)
        if found > size + _SURPLUS:
            raise damaged(path, "it unpacks to more bytes than its header speaks of")
    if found < size:
        raise damaged(path, f"it unpacks to {found} of {size} bytes")
    return data


def _pieces(path: Path, *, offset: int = 0, most: int = _PIECE, wbits: int = GZIP) -> Iterator[bytes]:
    """Unpack member after member; ISA-L itself compares each member's size and checksum at its end."""
    with path.open("rb") as file:
        file.seek(offset)
        member, packed = isal_zlib.decompressobj(wbits=wbits), file.read(_PIECE)
        while packed:
            try:
                piece = member.decompress(packed, most)
            except isal_zlib.error as error:  # type: ignore[misc]
                if "checksum" in str(error):
                    message = f"{path} has a wrong checksum: the file is damaged, so copy or export it again."
                    raise VolumeError("checksum", message) from error
                raise damaged(path, str(error)) from error
            if piece:
                yield piece
            packed = member.unconsumed_tail
            if member.eof:
                packed = _next_member(member.unused_data, file.read(_PIECE))
                if packed:
                    member = isal_zlib.decompressobj(wbits=wbits)
            elif not packed:
                packed = file.read(_PIECE)
        yield member.decompress(b"")  # what ISA-L held back when the last input was used up
        if not member.eof:
            raise damaged(path, "it ends before its checksum")


def _next_member(rest: bytes, following: bytes) -> bytes:
    """What follows a member; zeros are padding, as tapes and block devices add them."""
    packed = rest + following
    return b"" if not packed.strip(b"\0") else packed


def _missing(path: Path) -> str:
    if not os.path.lexists(path):
        return f"{path} does not exist: restore the file or take it off the list."
    target = str(path.readlink()) if path.is_symlink() else ""
    remedy = "run git annex get" if ".git/annex" in target.replace("\\", "/") else "restore the file or fetch it"
    return f"{path} is a link that leads nowhere: {remedy}."


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    return "named pipe" if stat.S_ISFIFO(mode) else "device or socket"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
