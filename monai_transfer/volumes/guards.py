"""What is asked of a file before its bytes become voxels, in the same words for every format.

It must be a regular file, its claims must be possible, and it must be a volume of grey values that says how it lies.
"""

import os
import stat
from pathlib import Path

from monai_transfer.machine import free_memory
from monai_transfer.volumes.volume import Note, Reading, VolumeError, damaged

GZIP_RATIO = 1032
"""Deflate cannot pack tighter: a run of 258 equal bytes takes two bits at least."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

_LARGEST_SHARE = 0.9
"""Share of the free memory that one volume may take; the rest is for what is done with it."""

_POINTERS = {
    b"version https://git-lfs.github.com/spec/": "git lfs pull",
    b"/annex/objects/": "git annex get",
}
"""How the small text files begin that stand for a volume which was not fetched, and how to fetch it."""


def require_file(path: Path) -> None:
    """Make sure that opening a path opens a regular file, so that no pipe or device is ever waited for.

    Raises:
        VolumeError: the file is missing, not a regular file, not fetched, or may not be read.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise VolumeError("missing", _missing(path)) from error
    if not stat.S_ISREG(mode):
        raise VolumeError("not_a_file", f"{path} is a {_kind(mode)} and no file: name a volume's file.")
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
