"""DICOM: which files of a folder form a volume, which are something else, and the volume itself.

A folder, and even one SeriesInstanceUID, may hold several volumes (phases, echoes, exports), localizers, reports and
segmentations. Frames are put together only where series, frame of reference, image type, orientation, matrix and pixel
spacing agree, and are told apart further where two of them would lie at one place.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_transfer.volumes.dicom_frames import Frame
from monai_transfer.volumes.dicom_geometry import find_grid
from monai_transfer.volumes.dicom_headers import NotAScan, read_frames, series_of
from monai_transfer.volumes.dicom_pixels import read_pixels
from monai_transfer.volumes.dicom_sorting import volumes_among
from monai_transfer.volumes.guards import is_dicom
from monai_transfer.volumes.volume import Note, Reading, Volume, VolumeError


@dataclass(frozen=True)
class Series:
    """The frames of one volume, not yet read.

    Attributes:
        uid: its SeriesInstanceUID; with ``#2``, ``#3``, … behind it for the further volumes of one series.
        path: its folder, or its file where there is one only.
        frames: its frames, in the order of their files.
        notes: what was noticed while the frames were sorted.
        faults: what is wrong with single files of it.

    Example:
        >>> series, skipped = find_series([Path("no_such_folder_here")])
        >>> series
        []
    """

    uid: str
    path: Path
    frames: tuple[Frame, ...]
    notes: tuple[Note, ...] = ()
    faults: tuple[VolumeError, ...] = ()


@dataclass(frozen=True)
class LeftOut(Note):
    """A note on objects that are no part of a volume.

    Attributes:
        path: the first of their files.
        reason: what they are instead.
    """

    path: Path
    reason: str


def find_series(paths: Iterable[Path]) -> tuple[list[Series], list[LeftOut]]:
    """Sort DICOM files into volumes.

    Args:
        paths: files, or folders whose files are looked at (not those of folders inside them).

    Returns:
        the volumes in the order of their files, and one note for each kind of object that is left out.
    """
    frames: dict[tuple[Path, str], list[Frame]] = defaultdict(list)
    faults: dict[tuple[Path, str | None], list[VolumeError]] = defaultdict(list)
    skipped: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in _files(paths):
        try:
            found = read_frames(path)
        except NotAScan as reason:
            skipped[path.parent, str(reason)].append(path)
        except VolumeError as error:
            faults[path.parent, series_of(path)].append(error)
        else:
            frames[path.parent, found[0].kind.series] += found
    result: list[Series] = []
    notes = [_left_out(files, reason) for (_, reason), files in skipped.items() if reason]
    for (folder, uid), members in frames.items():
        # A file too damaged to say what it belongs to may be a slice of any series beside it.
        broken = (*faults.pop((folder, uid), ()), *faults.get((folder, None), ()))
        result += _volumes(uid, members, broken)
    covered = {folder for folder, _ in frames}
    for (folder, lost), errors in faults.items():
        if lost is not None or folder not in covered:
            result.append(_without_frames(folder, lost or "", errors))
    return result, notes


def read_dicom(path: Path, *, series: str | None = None, reading: Reading | None = None) -> Volume:
    """Read the one volume of a file or a folder.

    Args:
        path: a multi-frame file, or the folder of a series.
        series: ``Series.uid`` of the volume to read where there are several.
        reading: how strictly.

    Raises:
        VolumeError: there is no volume, or there are several and none is named, or ``read_series`` refuses it.
    """
    found, skipped = find_series([path])
    if series is not None:
        found = [one for one in found if one.uid == series]
    if len(found) > 1:
        uids = ", ".join(one.uid for one in found)
        raise VolumeError("several_volumes", f"{path} holds {len(found)} DICOM volumes: name one of the series {uids}.")
    if not found:
        told = f" ({skipped[0].message.rstrip('.')})" if skipped else ""
        raise VolumeError("no_volume", f"{path} holds no DICOM volume{told}: name a folder with a series of slices.")
    volume = read_series(found[0], reading=reading)
    return replace(volume, notes=(*volume.notes, *skipped))


def read_series(series: Series, *, reading: Reading | None = None) -> Volume:
    """Read one volume, ``(1, columns, rows, slices)``, its slices in the order of their positions.

    Args:
        series: from ``find_series``.
        reading: how strictly; by default uneven spacing is refused.

    Raises:
        VolumeError: files of it are damaged, slices are missing or stored twice, or its frames form no grid.
    """
    reading = reading or Reading()
    notes = list(series.notes)
    if series.faults and not reading.allow_irregular:
        raise series.faults[0]
    if not series.frames:
        raise series.faults[0]
    notes += [Note("dicom_skipped", f"Left out: {fault}") for fault in series.faults]
    frames = series.frames
    if reading.allow_irregular:
        frames, copies = _without_copies(frames)
        notes += copies
    found = find_grid(frames, allow_irregular=reading.allow_irregular)
    array = read_pixels(found.frames, found.weights)[None]
    if any(frame.is_ct and frame.rescale is None for frame in frames):
        notes.append(Note("no_rescale", f"{series.path} gives no RescaleSlope: its values may be no Hounsfield units."))
    files = tuple(dict.fromkeys(frame.path for frame in found.frames))
    return Volume(series.path, array, found.affine, notes=(*notes, *found.notes), files=files)


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files that are DICOM by their signature or claim to be by their name, each once."""
    files: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files |= dict.fromkeys(file for file in inside if _is_candidate(file))
    return list(files)


def _is_candidate(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    # A transfer that broke off leaves empty files, which carry no signature any more.
    return is_dicom(path) or (not path.suffix and path.stat().st_size == 0)


def _left_out(files: Sequence[Path], reason: str) -> LeftOut:
    reason = f"it is {reason}" if len(files) == 1 else f"it and {len(files) - 1} more files are {reason}"
    return LeftOut("dicom_skipped", f"{files[0]} is left out: {reason}.", files[0], reason)


def _without_frames(folder: Path, uid: str, faults: Sequence[VolumeError]) -> Series:
    """A series of which no file can be used: it is listed, so that its fault is told and not passed over."""
    return Series(uid, folder, (), faults=tuple(faults))


def _volumes(uid: str, frames: Sequence[Frame], faults: tuple[VolumeError, ...]) -> list[Series]:
    """The volumes of one series in one folder."""
    groups = volumes_among(frames)
    largest = max(len(group) for group in groups)
    kept = [group for group in groups if len(group) > 1 or largest < 3]
    # Single frames of another kind beside a volume: localizers that do not call themselves so, screenshots.
    single = tuple(
        Note("dicom_skipped", f"{group[0].name} is left out: it is a single frame of another kind than its series.")
        for group in groups
        if len(group) == 1 and largest >= 3
    )
    result = []
    for number, group in enumerate(kept, start=1):
        notes = single
        if len(kept) > 1:
            folder = group[0].path.parent
            message = f"{folder} holds {len(kept)} volumes under one SeriesInstanceUID: this is number {number}."
            notes = (*single, Note("several_volumes", message))
        files = {frame.path for frame in group}
        path = group[0].path if len(files) == 1 else group[0].path.parent
        result.append(Series(uid if number == 1 else f"{uid}#{number}", path, tuple(group), notes, faults))
    return result


def _without_copies(frames: tuple[Frame, ...]) -> tuple[tuple[Frame, ...], list[Note]]:
    """The frames without second files of one and the same object."""
    first: dict[object, Frame] = {}
    for frame in frames:
        _, uid = frame.instance
        first.setdefault((uid, frame.index) if uid else frame, frame)
    if len(first) == len(frames):
        return frames, []
    message = f"{frames[0].path.parent} holds {len(frames) - len(first)} slices twice: the second copies are left out."
    return tuple(first.values()), [Note("double", message)]
