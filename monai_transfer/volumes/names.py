"""What the names of volume files say: which are volumes, whose they are, in which order they stand."""

import re
from pathlib import Path

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
"""File name endings that are read as volumes; of a NIfTI pair the header stands for both."""

_CHANNEL = re.compile(r"_(\d{4})$")


def is_volume(path: Path) -> bool:
    """Whether the file's name is that of a volume; hidden files (``._scan.nii.gz``) are not."""
    return not path.name.startswith(".") and path.name.lower().endswith(VOLUME_SUFFIXES)


def stem(path: Path) -> str:
    """The file's name without the ending of its format."""
    for suffix in VOLUME_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_segmentation(path: Path) -> bool:
    """Whether a file is named as 3D Slicer names label maps: ``scan.seg.nrrd``."""
    return path.name.lower().endswith(".seg.nrrd")


def label_stem(path: Path) -> str:
    """The name of the case that a label map belongs to: ``scan`` of ``scan.nii.gz`` and of ``scan.seg.nrrd``."""
    return path.name[: -len(".seg.nrrd")] if is_segmentation(path) else stem(path)


def without_channel(name: str) -> str:
    """``liver_007`` of ``liver_007_0001``; other names as they are."""
    return _CHANNEL.sub("", name)


def channel_of(name: str) -> int | None:
    """The channel's number at the end of an nnU-Net image's name, if there is one."""
    match = _CHANNEL.search(name)
    return int(match.group(1)) if match else None


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts ``case_2`` before ``case_10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part)


def list_volumes(folder: Path) -> list[Path]:
    """What bears the name of a volume in a folder, in natural order; none when the folder is absent.

    Links that lead nowhere are among them, for whoever reads them must say so: a subject that was not fetched would
    otherwise vanish without a word.
    """
    if not folder.is_dir():
        return []
    volumes = [path for path in folder.iterdir() if is_volume(path)]
    return sorted(volumes, key=lambda path: natural_key(path.name))
