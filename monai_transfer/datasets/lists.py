"""Cases from the lists of a description: the Decathlon's, both nnU-Nets', and MONAI's datalists."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_transfer.datasets.cases import Case
from monai_transfer.datasets.channels import group_channels
from monai_transfer.datasets.descriptions import Description
from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import channel_of, label_stem, list_volumes, stem, without_channel

_LONGEST_NAME = 200
"""Characters of a case's name, which becomes the name of a file beside an ending of its own."""


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


def require_name(name: str, where: Path) -> None:
    """Make sure that a name in a description can become the name of a file.

    Raises:
        UserError: it cannot.
    """
    odd = not name.strip(". ") or any(mark in name for mark in "/\\") or not name.isprintable()
    if odd or len(name) > _LONGEST_NAME:
        short = name if len(name) < 40 else name[:40] + "…"
        raise UserError(
            f"{where}: the case {short!r} cannot be the name of a file: name it by at most {_LONGEST_NAME} letters, "
            "digits and hyphens."
        )


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
