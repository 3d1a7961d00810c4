"""What is asked of a file before a byte of it becomes voxels: that it is one, and that its claims are possible."""

import os
import stat
from pathlib import Path

from monai_transfer.machine import free_memory
from monai_transfer.volumes.volume import VolumeError, damaged

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
