"""What ``dataset.json`` and ``labels.json`` say: names of labels and channels, lists of cases."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_transfer.errors import UserError
from monai_transfer.files import read_object
from monai_transfer.volumes.volume import VOLUME_SUFFIXES

LARGEST_VALUE = 65535
"""Label values above are not labels but intensities or damage; atlases (FreeSurfer) stay below 16 bits."""

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LABELS_REMEDY = 'write {"background": 0, "liver": 1}'
_CHANNELS_REMEDY = 'write "channel_names": {"0": "T1", "1": "T2"}'


@dataclass(frozen=True)
class Description:
    """The parts of a description file that matter here.

    Attributes:
        path: the file, if there is one.
        label_names: label value -> name; empty when unknown.
        channel_names: names in the order of the channels; empty when unknown.
        lists: section (``training``, ``validation``, ``test``) -> its entries, as written.
        mapping: case -> its entry, as written (``"dataset"`` of nnU-Net 2).
        case_count: how many training cases it promises, if it does.
        file_ending: the ending of the images' names, if it says so.

    Example:
        >>> Description(label_names={0: "background", 1: "liver"}).lists
        {}
    """

    path: Path | None = None
    label_names: dict[int, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    lists: dict[str, list[Any]] = field(default_factory=dict)
    mapping: dict[str, Any] = field(default_factory=dict)
    case_count: int | None = None
    file_ending: str | None = None

    @property
    def is_nnunet_2(self) -> bool:
        """Whether it is of nnU-Net 2, whose image names always end in a channel's number."""
        return self.file_ending is not None


def find_description(folder: Path) -> Description:
    """The description that lies in a folder; an empty one when there is none.

    Raises:
        UserError: the file is not JSON, or a field of it is not what it should be.
    """
    description = Description()
    if os.path.lexists(folder / "dataset.json"):
        description = read_description(folder / "dataset.json")
    labels = folder / "labels.json"
    if os.path.lexists(labels):
        names = parse_label_names(read_object(labels), labels)
        description = replace(description, path=description.path or labels, label_names=names)
    return description


def read_description(path: Path) -> Description:
    """A description file of the Decathlon, of nnU-Net or of a MONAI datalist.

    Raises:
        UserError: the file is not JSON, or a field of it is not what it should be.
    """
    content = read_object(path)
    lists = {}
    for section in ("training", "validation", "test"):
        entries = content.get(section) or []
        if not isinstance(entries, list):
            raise UserError(f'{path}: "{section}" is not a list: write [{{"image": "a.nii.gz", "label": "b.nii.gz"}}].')
        lists[section] = entries
    channels = content.get("channel_names")
    return Description(
        path=path,
        label_names=parse_label_names(content["labels"], path) if content.get("labels") else {},
        channel_names=_parse_channel_names(content.get("modality") if channels is None else channels, path),
        lists={section: entries for section, entries in lists.items() if entries},
        mapping=_parse_mapping(content.get("dataset"), path),
        case_count=_parse_count(content.get("numTraining"), path),
        file_ending=_parse_ending(content.get("file_ending"), path),
    )


def parse_label_names(labels: Any, path: Path) -> dict[int, str]:
    """Label names by value from ``{"1": "liver"}``, ``{"liver": 1}`` or ``{"liver": [1]}``.

    Args:
        labels: what the file holds.
        path: the file, for the messages.

    Raises:
        UserError: the labels are none of these, or are nnU-Net regions or an ignore label.
    """
    if isinstance(labels, dict) and isinstance(labels.get("labels"), dict):
        labels = labels["labels"]
    if not isinstance(labels, dict):
        raise UserError(f'{path}: "labels" is not a mapping: {_LABELS_REMEDY}.')
    names: dict[int, str] = {}
    for key, value in labels.items():
        number, name = _label(key, value, path)
        if name.strip().lower() == "ignore":
            raise UserError(f"{path}: an 'ignore' label is not supported: remove it and set its voxels to 0.")
        if not name.strip():
            raise UserError(f'{path}: the label of value {number} in "labels" has no name: {_LABELS_REMEDY}.')
        if number < 0 or number in names:
            raise UserError(f"{path}: label value {number} is negative or named twice: give each value one name.")
        if number > LARGEST_VALUE:
            raise UserError(f"{path}: label value {number} of {name!r} is above {LARGEST_VALUE}: renumber the labels.")
        if name in names.values():
            raise UserError(f"{path}: two label values are named {name!r}: give each value a name of its own.")
        if number and name.strip().lower() == "background":
            raise UserError(f"{path}: the background has the label value {number}: renumber it to 0.")
        names[number] = name
    names.setdefault(0, "background")
    return dict(sorted(names.items()))


def _label(key: str, value: Any, path: Path) -> tuple[int, str]:
    """Value and name of one entry of the labels."""
    if isinstance(value, str) and _NUMBER.fullmatch(key):
        return int(key), value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # nnU-Net 2 writes regions as lists, and a region of one value is that value
    elif isinstance(value, list):
        raise UserError(f"{path}: label {key!r} is a region of several values: give each value a name of its own.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value, key
    raise UserError(f'{path}: label {key!r} in "labels" has no whole number: {_LABELS_REMEDY}.')


def _parse_channel_names(channels: Any, path: Path) -> tuple[str, ...]:
    if channels is None:
        return ()
    if isinstance(channels, str):
        channels = [channels]
    if isinstance(channels, Mapping):
        if not all(_NUMBER.fullmatch(key) for key in channels) or len({int(key) for key in channels}) != len(channels):
            raise UserError(f"{path}: the channels are not numbered: {_CHANNELS_REMEDY}.")
        channels = [channels[key] for key in sorted(channels, key=int)]
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise UserError(f"{path}: the channels have no names: {_CHANNELS_REMEDY}.")
    return tuple(channels)


def _parse_mapping(mapping: Any, path: Path) -> dict[str, Any]:
    # A datalist may carry the name of its data set in this field, which lists nothing.
    if mapping is None or isinstance(mapping, str):
        return {}
    if not isinstance(mapping, dict):
        raise UserError(
            f'{path}: "dataset" is not a mapping: write {{"case": {{"images": ["a.nii.gz"], "label": "b.nii.gz"}}}}.'
        )
    return mapping


def _parse_count(count: Any, path: Path) -> int | None:
    if isinstance(count, str) and _NUMBER.fullmatch(count):
        count = int(count)
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise UserError(f'{path}: "numTraining" is not a number of cases: write how many there are, or remove it.')
    return count


def _parse_ending(ending: Any, path: Path) -> str | None:
    if ending is None:
        return None
    if not isinstance(ending, str) or not ending.lower().endswith(VOLUME_SUFFIXES):
        known = ", ".join(VOLUME_SUFFIXES)
        raise UserError(f'{path}: "file_ending" names no format that is read: convert the images to one of {known}.')
    return ending
