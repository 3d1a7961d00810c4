"""Which files form a data set and its cases: a description's own lists, else the folders; no voxels are looked at."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from monai_transfer.datasets.cases import Case, CaseDataset, Fault
from monai_transfer.datasets.descriptions import Description, find_description, read_description
from monai_transfer.datasets.folders import Found, read_folders, stray_label, with_others
from monai_transfer.datasets.lists import listed_cases
from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import Reading, is_volume, list_volumes, natural_key, stem

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
    cases = _uniquely_named(found.cases, base)
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
    listed = {_plain(image) for case in cases for image in case.images}
    folders = [base / images for images, _ in _FOLDERS[section]]
    others = [file for folder in folders for file in list_volumes(folder) if _plain(file) not in listed]
    if not others:
        return []
    message = f"{others[0]} is not in the list of {description.path}: it is left out{with_others(others)}."
    return [Fault(others[0], "", "unlisted", message)]


def _uniquely_named(cases: list[Case], base: Path) -> list[Case]:
    """The cases, named by their folders too where files of several folders have equal names.

    Raises:
        UserError: a name is not a text, or two cases have the same name or names that many disks do not tell apart.
    """
    for case in cases:
        if not _is_text(case.name):
            raise UserError(f"The name of {str(case.images[0])!a} is not written in UTF-8: rename the file.")
    if len({case.name for case in cases}) < len(cases):
        cases = [replace(case, name=_long_name(case, base)) for case in cases]
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise UserError(f"The case {twice[0]!r} of {base} is there more than once: list each image once.")
    alike: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        alike[case.name.casefold()].append(case.name)
    for names in alike.values():
        if len(names) > 1:
            raise UserError(
                f"The cases {names[0]!r} and {names[1]!r} of {base} differ only in capital letters, which many disks "
                "do not keep apart: rename one of them."
            )
    return cases


def _plain(path: Path) -> Path:
    """The absolute path without ``..``; links stay, for those of git-annex lead to numbers instead of names."""
    return Path(os.path.normpath(path.absolute()))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of another encoding, which Python carries along as halves of characters
        return False
    return True


def _long_name(case: Case, base: Path) -> str:
    folder, top = _plain(case.images[0]).parent, _plain(base)
    parts = folder.relative_to(top).parts if folder.is_relative_to(top) else folder.parts[1:]
    return "_".join([*parts, case.name])


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
