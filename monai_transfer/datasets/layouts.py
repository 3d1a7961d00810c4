"""Which files form a data set and its cases: a description's own lists, else the folders; no voxels are looked at."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from monai_transfer.datasets.cases import Case, CaseDataset, Fault, plain_path, require_name, uniquely_named
from monai_transfer.datasets.channels import group_channels
from monai_transfer.datasets.descriptions import Description, find_description, read_description
from monai_transfer.datasets.folders import Found, read_folders, stray_label, with_others
from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import (
    Reading,
    channel_of,
    is_volume,
    label_stem,
    list_volumes,
    natural_key,
    stem,
    without_channel,
)

Section = Literal["training", "test", "all"]

_FOLDERS: dict[str, tuple[tuple[str, str], ...]] = {
    "training": (("imagesTr", "labelsTr"), ("images", "labels")),
    "test": (("imagesTs", "labelsTs"),),
}
_LISTS = {"training": ("training", "validation"), "test": ("test",)}
_KNOWN = (
    "a folder with images/ and labels/, a Decathlon or nnU-Net folder (imagesTr/, labelsTr/), "
    "a folder of volumes, or a MONAI datalist (.json)"
)


def read_dataset(
    path: str | Path,
    *,
    section: Section = "training",
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> CaseDataset:
    """Read any of the layouts: Decathlon, nnU-Net raw, ``images``/``labels``, MONAI datalist, or bare volumes.

    Where a ``dataset.json`` lists its cases, these are the cases, and files that it does not list are left out with a
    warning; else the folders say what there is.

    Args:
        path: a folder, a datalist, or a single volume.
        section: ``training`` (with ``validation`` of a datalist), ``test``, or ``all`` of it. A data set that has
            only a test section gives that.
        reading: how strictly the volumes will be read; nothing of them is read yet.

    Raises:
        UserError: nothing is there, the layout is none of these, or two cases cannot be told apart.
    """
    try:
        return replace(_read(Path(path).expanduser(), section), reading=reading)
    except (OSError, RuntimeError) as error:  # a folder without the right to list it, or ~nobody
        where = error.filename if isinstance(error, OSError) and error.filename else path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{where} cannot be read ({reason}): give yourself the right to read it, or move it."
        ) from error


def _read(root: Path, section: Section) -> CaseDataset:
    if not root.exists():
        raise UserError(f"{root} does not exist: give {_KNOWN}.")
    if root.is_file() and is_volume(root):
        return CaseDataset(root, (Case(stem(root), (root,)),))
    if root.is_file() and root.suffix != ".json":
        raise UserError(f"{root} is neither a volume nor a datalist: give {_KNOWN}.")
    base = root.parent if root.is_file() else root
    description = read_description(root) if root.is_file() else find_description(root)
    # A datalist that was named says everything; a description that lies in a folder may list one section only.
    scan = root.is_dir() or not (description.lists or description.mapping)
    wanted: list[str] = ["training", "test"] if section == "all" else [section]
    found = _gather(base, description, wanted, scan=scan)
    if not found.cases and section == "training":
        testing = _gather(base, description, ["test"], scan=scan)
        found = testing if testing.cases else found
    if not found.cases and root.is_dir():
        read_folders(root, None, description, found)
    if not found.cases:
        raise UserError(_nothing_there(root, found))
    cases = uniquely_named(found.cases, base)
    return CaseDataset(
        root=root,
        cases=tuple(sorted(cases, key=lambda case: natural_key(case.name))),
        label_names=description.label_names,
        channel_names=_channel_names(description, cases),
        faults=tuple(found.faults),
        warnings=tuple(found.warnings),
    )


def _gather(base: Path, description: Description, sections: Sequence[str], *, scan: bool) -> Found:
    """The cases of some sections, each by its lists where there are any, else by its folders."""
    found = Found()
    lists = {part: listed_cases(base, description, part) for parts in _LISTS.values() for part in parts}
    for section in sections:
        before = len(found.cases)
        found.cases += [case for part in _LISTS[section] for case in lists[part]]
        if len(found.cases) == before and scan:
            for images, labels in _FOLDERS[section]:
                if _is_folder(base / images):
                    _is_folder(base / labels)
                    read_folders(base / images, base / labels, description, found)
                elif _is_folder(base / labels):
                    found.faults += [stray_label(label) for label in list_volumes(base / labels)]
        elif scan:
            everybody = [case for cases in lists.values() for case in cases]
            found.warnings += _unlisted(base, description, section, everybody)
        count = len(lists["training"]) or len(found.cases) - before
        if section == "training" and description.path and count and description.case_count not in (None, count):
            message = f"{description.path} speaks of {description.case_count} training cases but there are {count}."
            found.warnings.append(Fault(description.path, "", "case_count", message))
    return found


def _is_folder(path: Path) -> bool:
    """Whether a folder is there; one that is only a link to nothing, or to itself, is not passed over in silence."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link that leads nowhere: restore the folder or remove the link.")
    return path.is_dir()


def _unlisted(base: Path, description: Description, section: str, cases: list[Case]) -> list[Fault]:
    """The images in a section's folders that its list does not name."""
    listed = {plain_path(image) for case in cases for image in case.images}
    folders = [base / images for images, _ in _FOLDERS[section]]
    others = [file for folder in folders for file in list_volumes(folder) if plain_path(file) not in listed]
    if not others:
        return []
    message = f"{others[0]} is not in the list of {description.path}: it is left out{with_others(others)}."
    return [Fault(others[0], "", "unlisted", message)]


def _channel_names(description: Description, cases: list[Case]) -> tuple[str, ...]:
    """One name per channel; a single file may hold all that the description names, as the Decathlon's do."""
    count = Counter(len(case.images) for case in cases).most_common(1)[0][0]
    if description.channel_names and count in (1, len(description.channel_names)):
        return description.channel_names
    return ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))


def _nothing_there(root: Path, found: Found) -> str:
    if found.faults:
        return f"{root} holds labels but no images: put the images into images/ or imagesTr/ under equal names."
    if root.is_dir() and not any(root.iterdir()):
        return f"{root} is empty: give {_KNOWN}."
    return f"{root} holds no volumes that could be read: give {_KNOWN}."


def listed_cases(base: Path, description: Description, section: str) -> list[Case]:
    """The cases that a description lists in a section.

    Args:
        base: the folder that its paths start from.
        description: what was read.
        section: ``training``, ``validation`` or ``test``; the mapping of nnU-Net 2 is training.

    Raises:
        UserError: an entry names no image, or a name or path in it cannot be used.
    """
    folders = _Folders(base)
    cases = [_case(entry, folders, description) for entry in description.lists.get(section, [])]
    if section == "training":
        cases += [_mapped(name, entry, folders, description) for name, entry in description.mapping.items()]
    return cases


class _Folders:
    """The listings of the folders that a list speaks of, each read once."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._listings: dict[Path, dict[str, dict[str, Path]]] = {}

    def channels(self, image: Path, described: int) -> tuple[Path, ...]:
        """The files that a listed image stands for: nnU-Net 1 lists ``a.nii.gz`` for ``a_0000.nii.gz`` and so on."""
        if os.path.lexists(image):
            return (image,)
        groups = self._grouped(image.parent)
        # The channels of all cases are completed together: only others can tell that the last one of a case is missing.
        files = groups.get(stem(image), {})
        if not files:
            return (image,)
        everyone = {name: file for group in groups.values() for name, file in group.items()}
        return group_channels(everyone, described)[stem(image)]

    def label(self, image: Path, name: str) -> Path | None:
        """The label of an image of a test section, in the folder beside: ``labelsTs`` for ``imagesTs``."""
        if not image.parent.name.startswith("images"):
            return None
        folder = image.parent.with_name(image.parent.name.replace("images", "labels", 1))
        return next((file for file in list_volumes(folder) if label_stem(file) == name), None)

    def _grouped(self, folder: Path) -> dict[str, dict[str, Path]]:
        """Name without channel -> name with channel -> file."""
        if folder not in self._listings:
            groups: dict[str, dict[str, Path]] = {}
            for file in list_volumes(folder):
                if channel_of(stem(file)) is not None:
                    groups.setdefault(without_channel(stem(file)), {})[stem(file)] = file
            self._listings[folder] = groups
        return self._listings[folder]


def _case(entry: Any, folders: _Folders, description: Description) -> Case:
    """A case of a list's entry: a mapping with ``image`` and perhaps ``label``, or just a path."""
    content = entry if isinstance(entry, dict) else {"image": entry}
    paths = list(_paths(content.get("image"), entry, description))
    images = tuple(folders.base / path for path in paths)
    name = stem(images[0]) if len(images) == 1 else without_channel(stem(images[0]))
    label = _label(content.get("label"), images, folders, description)
    if label is None and not isinstance(entry, dict):
        label = folders.label(images[0], name)
    if len(images) == 1:
        images = folders.channels(images[0], len(description.channel_names))
    return Case(name, images, label, _fold(content.get("fold"), description))


def _mapped(name: str, entry: Any, folders: _Folders, description: Description) -> Case:
    """A case of nnU-Net 2's mapping, which says the case's name itself."""
    require_name(name, description.path or folders.base)
    content = entry if isinstance(entry, dict) else {}
    images = tuple(folders.base / path for path in _paths(content.get("images"), entry, description))
    return Case(name, images, _label(content.get("label"), images, folders, description))


def _paths(images: Any, entry: Any, description: Description) -> Iterator[str]:
    """The paths of an entry's images."""
    paths = images if isinstance(images, list) else [images]
    if not paths or not all(isinstance(path, str) and _is_path(path) for path in paths):
        shown = repr(entry) if len(repr(entry)) < 100 else repr(entry)[:100] + "…"
        raise UserError(f'{description.path}: the entry {shown} names no "image": give each entry the path of one.')
    if len(set(paths)) < len(paths):
        raise UserError(f"{description.path}: {paths[0]} stands twice in one entry: list each channel once.")
    yield from paths


def _label(label: Any, images: tuple[Path, ...], folders: _Folders, description: Description) -> Path | None:
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if label is None:
        return None
    if not isinstance(label, str) or not _is_path(label):
        raise UserError(f'{description.path}: the "label" of {images[0]} is not a path: name one label map.')
    if folders.base / label in images:
        raise UserError(f"{description.path}: {label} is listed as image and as label: name the label map.")
    return folders.base / label


def _fold(fold: Any, description: Description) -> int | None:
    """The fold of an entry, as MONAI's datalists number them from 0."""
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        raise UserError(f'{description.path}: the "fold" {fold!r} of an entry is not a number: number folds from 0.')
    return fold


def _is_path(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text
