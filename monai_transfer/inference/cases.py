"""Which inputs form the cases of a run: each volume once, with a name of its own, and what was left out and why."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from monai_transfer.errors import UserError
from monai_transfer.inference.output_folder import is_result_folder, names_apart, require_apart
from monai_transfer.volumes.guards import is_dicom
from monai_transfer.volumes.volume import Reading, Volume, channel_of, is_volume, natural_key, stem, without_channel

IMAGE_FOLDERS = ("imagesTs", "imagesTr", "images")
_LABEL_FOLDERS = re.compile(r"^(derivatives|labels|labels(Tr|Ts|Val)|masks|segmentations)$", re.IGNORECASE)
"""Folders of BIDS, Decathlon, nnU-Net and of habit that hold results or labels and no images."""

_LABEL_FILES = re.compile(r"[._-](d?seg|probseg|segmentation|labels?|mask)$", re.IGNORECASE)
"""How the names of label maps end, before the ending of the format: ``_dseg`` of BIDS, ``.seg.nrrd`` of 3D Slicer."""

_HEAD = 1 << 16
"""Bytes of a file's beginning that tell it from another of the same size and time: headers differ there."""


@dataclass(frozen=True)
class InputCase:
    """One volume to segment.

    Attributes:
        name: what its results are called.
        source: its file, its DICOM folder, or one file per channel.
        series: which DICOM series of the folder, where it is one.
        fault: why it cannot be segmented, where that is known without reading it.
        absent: numbers of the channels that have no file, where the bundle does without them.

    Example:
        >>> InputCase("a", (Path("a_0000.nii.gz"), Path("a_0001.nii.gz"))).path.name
        'a_0000.nii.gz'
    """

    name: str
    source: Path | tuple[Path, ...]
    series: str | None = None
    fault: str | None = None
    absent: tuple[int, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All that was named: one file or folder, or one file per channel."""
        return (self.source,) if isinstance(self.source, Path) else self.source

    @property
    def path(self) -> Path:
        """The file or folder, the first where there are several."""
        return self.paths[0]

    @property
    def where(self) -> str:
        """What the case is read from, links followed: the same for one file under two paths."""
        return "|".join([*(str(path.resolve()) for path in self.paths), *([self.series] if self.series else [])])

    def read(self, reading: Reading = Reading()) -> Volume:  # noqa: B008 (frozen)
        """The volume, all channels; an absent one holds air.

        Args:
            reading: how strictly.

        Raises:
            UserError: when it cannot be read.
        """
        if self.fault is not None:
            raise UserError(self.fault)
        for path in self.paths:
            if path.exists() and not path.is_file() and not path.is_dir():
                raise UserError(f"{path} is a pipe or device and no file: name a volume.")
        from monai_transfer.volumes.reading import read_volume  # here: SimpleITK is not needed to list cases

        source = self.source if isinstance(self.source, Path) else list(self.source)
        volume = read_volume(source, series=self.series, reading=reading)
        return _with_absent(volume, self.absent) if self.absent else volume

    def identity(self) -> str:
        """A digest of where the case lies and what is there: path, size, time and beginning of each file.

        Of a DICOM folder all files count, by name, size and time.
        """
        facts: list[object] = [self.where]
        for path in self.paths:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            for file in files:
                if not file.is_file():
                    facts.append([file.name, None])
                    continue
                status = file.stat()
                facts.append([file.name, status.st_size, status.st_mtime_ns, "" if path.is_dir() else _head(file)])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class Skipped:
    """Something in an input folder that is not segmented."""

    path: Path
    reason: str


@dataclass
class Inputs:
    """The cases of a run, and what was left out.

    Example:
        >>> [case.name for case in Inputs([InputCase("a", Path("a.nii.gz"))]).cases]
        ['a']
    """

    cases: list[InputCase] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def find_cases(
    inputs: Sequence[Path], *, channels: int | None = None, optional: bool = False, output: Path | None = None
) -> Inputs:
    """List the volumes in files and folders, each once, in a fixed order.

    A folder may hold volumes, a DICOM series (or several), or folders of these. Of a data set with ``imagesTs``,
    ``imagesTr`` or ``images`` folders only these are read. Left out, with a note, are label maps by their names
    (``derivatives/``, ``labels/``, ``*_dseg``, ``*_seg``, ``*_label``, ``*.seg.nrrd``), earlier results of this package
    (folders with its manifest), pipes and devices, links back to a folder that is already on the way, and a second
    path to the same file. Files that were named directly are taken as they are, even where they cannot be read: they
    then fail one by one, as do links that lead nowhere.

    Args:
        inputs: files and folders.
        channels: channels that the bundle expects; with several, ``NAME_0000``, ``NAME_0001`` … form one case.
        optional: whether the bundle does without some of the channels.
        output: the folder of the results, which is left out.

    Raises:
        UserError: when an input does not exist, there is no volume at all, or inputs and results lie in each other.
    """
    if output is not None:
        require_apart(inputs, output)
    walk = _Walk(output.resolve() if output is not None else None)
    require_there(inputs)
    for given in inputs:
        walk.found.cases += walk.folder(given) if given.is_dir() else [InputCase(_stem(given), given)]
    found = walk.found
    if channels is not None and channels > 1:
        found.cases = list(_group_channels(found.cases, channels, optional=optional))
    unique: dict[str, InputCase] = {}
    for case in found.cases:
        first = unique.setdefault(case.where, case)
        if first is not case and first.source != case.source:
            found.skipped.append(Skipped(case.path, f"the same file as {first.path}"))
    if not unique:
        left_out = "".join(f" {skipped.path} was left out ({skipped.reason})." for skipped in found.skipped[:1])
        raise UserError(
            f"No volumes in {', '.join(map(str, inputs))}; NIfTI, DICOM, NRRD, MetaImage and MGH are read.{left_out}"
        )
    cases = list(unique.values())
    if output is not None:
        require_apart([path for case in cases for path in case.paths], output)  # links may lead there
    names = names_apart([[case.name, f"{case.path.absolute().parent.name}_{case.name}"] for case in cases])
    return Inputs([replace(case, name=name) for case, name in zip(cases, names, strict=True)], found.skipped)


def require_there(inputs: Sequence[Path]) -> None:
    """See that all inputs exist; a link that leads nowhere passes here and fails as a case.

    Raises:
        UserError: one does not.
    """
    for given in inputs:
        if not os.path.lexists(given):
            raise UserError(f"{given} does not exist; name files or folders of volumes.")


class _Walk:
    """The way through the input folders."""

    def __init__(self, output: Path | None) -> None:
        self.output = output
        self.found = Inputs()
        self.seen: set[Path] = set()

    def skip(self, path: Path, reason: str) -> None:
        self.found.skipped.append(Skipped(path, reason))

    def folder(self, folder: Path) -> list[InputCase]:
        real = folder.resolve()
        if real in self.seen:
            self.skip(folder, "a folder that was read already")
            return []
        self.seen.add(real)
        if real == self.output:
            self.skip(folder, "the output folder")
            return []
        if is_result_folder(folder):
            self.skip(folder, "results of monai-transfer; name single files to segment them")
            return []
        try:
            content = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=_order)
        except OSError as error:
            self.skip(folder, f"cannot be listed ({error.strerror})")
            return []
        images = [p for p in content if p.is_dir() and p.name in IMAGE_FOLDERS]
        if images:
            return [case for p in images for case in self.folder(p)]
        cases = [InputCase(_stem(p), p) for p in content if not p.is_dir() and self.takes(p)]
        if any(is_dicom(p) for p in content if p.is_file() and not is_volume(p)):
            cases += self.dicom(folder)
        for part in (p for p in content if p.is_dir()):
            if _LABEL_FOLDERS.match(part.name):
                self.skip(part, "by its name a folder of labels or results")
            else:
                cases += self.folder(part)
        return cases

    def dicom(self, folder: Path) -> list[InputCase]:
        from monai_transfer.volumes.dicom import find_series  # pydicom is loaded only where DICOM is met

        series, left_out = find_series([folder])
        for note in left_out:
            self.skip(note.path, note.reason)
        name = folder.resolve().name
        if len(series) == 1:
            return [InputCase(name, folder, series[0].uid)]
        return [InputCase(f"{name}_{n}", folder, one.uid) for n, one in enumerate(series, start=1)]

    def takes(self, path: Path) -> bool:
        """Whether a file in a folder is a case."""
        if path.exists() and not path.is_file():
            self.skip(path, "a pipe or device and no file")
            return False
        if not is_volume(path):
            return False
        if _LABEL_FILES.search(stem(path)):
            self.skip(path, "by its name a label map; name the file itself to segment it")
            return False
        return True


def _order(path: Path) -> tuple[object, str]:
    return natural_key(path.name), path.name


def _stem(path: Path) -> str:
    """The plain name of a file; that of its folder where it has none, such as ``.nii.gz``."""
    return stem(path).strip(". ") or path.absolute().parent.name


def _head(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.sha256(content.read(_HEAD)).hexdigest()
    except OSError:
        return ""


def _group_channels(cases: Sequence[InputCase], channels: int, *, optional: bool) -> Iterator[InputCase]:
    """One case of ``NAME_0000``, ``NAME_0001`` …, in the place of its first file; a fault where one must not miss."""
    groups: dict[tuple[Path, str], list[InputCase]] = {}
    for case in cases:
        single = channel_of(case.name) is None or not isinstance(case.source, Path) or case.path.is_dir()
        key = (case.path.resolve(), "") if single else (case.path.absolute().parent, without_channel(case.name))
        groups.setdefault(key, []).append(case)
    for (folder, name), found in groups.items():
        if not name:
            yield from found
            continue
        found.sort(key=lambda case: case.name)
        numbers = [channel_of(case.name) for case in found]
        fault = None
        absent = tuple(number for number in range(channels) if number not in numbers) if optional else ()
        if sorted([*map(int, absent), *(number or 0 for number in numbers)]) != list(range(channels)):
            listed = ", ".join(f"{number:04d}" for number in numbers)
            fault = (
                f"{folder / name} has the channels {listed}, but the bundle takes 0000 to {channels - 1:04d}, each "
                "once; add or remove files."
            )
        yield InputCase(name, tuple(case.path for case in found), fault=fault, absent=absent)


def _with_absent(volume: Volume, absent: Sequence[int]) -> Volume:
    """The volume with channels of air in the places of absent ones, which any normalisation makes a constant of."""
    there = iter(volume.array)
    air = np.full_like(volume.array[0], volume.array.min())
    count = len(volume.array) + len(absent)
    return replace(volume, array=np.stack([air if number in absent else next(there) for number in range(count)]))
