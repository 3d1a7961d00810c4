"""Which volumes the given files and folders hold, and what the results are called."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import itk

from monai_transfer.errors import UserError
from monai_transfer.volumes.reading import (
    ITK_SUFFIXES,
    NIBABEL_SUFFIXES,
    Volume,
    has_suffix,
    is_dicom,
    read_volume,
)

IMAGE_FOLDERS = ("imagesTs", "imagesTr", "images")
CHANNEL = re.compile(r"^(.+)_(\d{4})$")


@dataclass(frozen=True)
class InputCase:
    """One volume to segment.

    Attributes:
        name: what its results are called.
        source: its file, its DICOM folder, or one file per channel.
        series: UID of the DICOM series in the folder.
    """

    name: str
    source: Path | tuple[Path, ...]
    series: str | None = None

    @property
    def path(self) -> Path:
        """The file or folder, the first where there are several."""
        return self.source if isinstance(self.source, Path) else self.source[0]

    def read(self) -> Volume:
        """The volume, all channels.

        Raises:
            UserError: when it cannot be read.
        """
        source = self.source if isinstance(self.source, Path) else list(self.source)
        return read_volume(source, series=self.series)


def find_cases(inputs: Sequence[Path], *, channels: int | None = None) -> list[InputCase]:
    """List the volumes in files and folders, each once, in a fixed order.

    A folder may hold volumes, a DICOM series (or several), or folders of these. Of a data set with ``imagesTs``,
    ``imagesTr`` or ``images`` folders only these are read, so that label maps are left alone. Files that were named
    directly are taken as they are, even where they cannot be read: they then fail one by one.

    Args:
        inputs: files and folders.
        channels: channels that the bundle expects; with several, ``NAME_0000``, ``NAME_0001`` … form one case.

    Raises:
        UserError: when an input does not exist or there is no volume at all.
    """
    cases: list[InputCase] = []
    for given in inputs:
        if not given.exists():
            raise UserError(f"{given} does not exist; name files or folders of volumes.")
        found = _in_folder(given) if given.is_dir() else [InputCase(stem(given), given)]
        cases += found
    if channels is not None and channels > 1:
        cases = _group_channels(cases, channels)
    unique = list({(c.source, c.series): c for c in cases}.values())
    if not unique:
        raise UserError(f"No volumes in {', '.join(map(str, inputs))}; NIfTI, DICOM, NRRD, MetaImage and MGH are read.")
    return _named_apart(unique)


def stem(path: Path) -> str:
    """The file name without its suffix, ``.nii.gz`` counting as one."""
    known = sorted((*NIBABEL_SUFFIXES, *ITK_SUFFIXES), key=len, reverse=True)
    suffix = next((s for s in known if path.name.lower().endswith(s)), "")
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def _in_folder(folder: Path) -> list[InputCase]:
    content = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    images = [p for p in content if p.is_dir() and p.name in IMAGE_FOLDERS]
    if images:
        return [case for p in images for case in _in_folder(p)]
    files = [p for p in content if p.is_file()]
    volumes = [p for p in files if has_suffix(p, (*NIBABEL_SUFFIXES, *ITK_SUFFIXES)) and not has_suffix(p, (".dcm",))]
    volumes = [p for p in volumes if not (has_suffix(p, (".img",)) and p.with_suffix(".hdr") in files)]
    cases = [InputCase(stem(p), p) for p in volumes]
    if any(is_dicom(p) for p in files if p not in volumes):
        cases += _dicom_series(folder)
    return cases + [case for p in content if p.is_dir() for case in _in_folder(p)]


def _dicom_series(folder: Path) -> list[InputCase]:
    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.AddSeriesRestriction("0008|0021")
    names.SetDirectory(str(folder))
    series = list(names.GetSeriesUIDs())
    if len(series) == 1:
        return [InputCase(folder.name, folder, series[0])]
    return [InputCase(f"{folder.name}_{n}", folder, uid) for n, uid in enumerate(series, start=1)]


def _group_channels(cases: Iterable[InputCase], channels: int) -> list[InputCase]:
    groups: dict[tuple[Path, str], list[InputCase]] = {}
    single = []
    for case in cases:
        match = CHANNEL.match(case.name)
        if match and isinstance(case.source, Path):
            groups.setdefault((case.path.parent, match[1]), []).append(case)
        else:
            single.append(case)
    grouped = [InputCase(name, tuple(sorted(c.path for c in found))) for (_, name), found in groups.items()]
    return sorted([*single, *grouped], key=lambda c: str(c.path))


def _named_apart(cases: Sequence[InputCase]) -> list[InputCase]:
    """Put the folder's name before names that occur twice, and a number behind those that still do."""
    count = Counter(c.name for c in cases)
    named = [replace(c, name=f"{c.path.parent.name}_{c.name}") if count[c.name] > 1 else c for c in cases]
    seen: Counter[str] = Counter()
    result = []
    for case in named:
        seen[case.name] += 1
        result.append(case if seen[case.name] == 1 else replace(case, name=f"{case.name}_{seen[case.name]}"))
    return result
