"""What ``dataset.json`` and ``labels.json`` say: names of labels and channels, lists of cases."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_transfer.errors import UserError


@dataclass(frozen=True)
class Description:
    """The parts of a description file that matter here.

    Attributes:
        path: the file, if there is one.
        label_names: label value -> name; empty when unknown.
        channel_names: names in the order of the channels; empty when unknown.
        lists: section (``training``, ``validation``, ``test``) -> its entries, as written.
    """

    path: Path | None = None
    label_names: dict[int, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    lists: dict[str, list[Any]] = field(default_factory=dict)


def find_description(folder: Path) -> Description:
    """The description that lies in a folder; an empty one when there is none.

    Raises:
        UserError: the file is no JSON, or its labels have no usable names.
    """
    description = Description()
    if (folder / "dataset.json").is_file():
        description = read_description(folder / "dataset.json")
    labels = folder / "labels.json"
    if labels.is_file():
        names = parse_label_names(_load(labels), labels)
        description = Description(description.path or labels, names, description.channel_names, description.lists)
    return description


def read_description(path: Path) -> Description:
    """A description file of the Decathlon, of nnU-Net or of a MONAI datalist.

    Raises:
        UserError: the file is no JSON, or its labels have no usable names.
    """
    content = _load(path)
    lists = {
        section: content[section]
        for section in ("training", "validation", "test")
        if isinstance(content.get(section), list)
    }
    channels = content.get("channel_names", content.get("modality"))
    return Description(
        path=path,
        label_names=parse_label_names(content["labels"], path) if content.get("labels") else {},
        channel_names=_parse_channel_names(channels),
        lists=lists,
    )


def parse_label_names(labels: Any, path: Path) -> dict[int, str]:
    """Label names by value from ``{"1": "liver"}`` or ``{"liver": 1}``.

    Args:
        labels: what the file holds.
        path: the file, for the messages.

    Raises:
        UserError: the labels are neither, or are nnU-Net regions or an ignore label.
    """
    if isinstance(labels, dict) and isinstance(labels.get("labels"), dict):
        labels = labels["labels"]
    if not isinstance(labels, dict):
        raise UserError(f'{path}: "labels" is no mapping: write {{"background": 0, "liver": 1}}.')
    names: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, str) and _is_integer(key):
            number, name = int(key), value
        elif isinstance(value, int) and not isinstance(value, bool):
            number, name = value, str(key)
        elif isinstance(value, list):
            raise UserError(f"{path}: label {key!r} is a region of several values: give each value a name of its own.")
        else:
            raise UserError(f'{path}: label {key!r} has no whole number: write {{"background": 0, "liver": 1}}.')
        if name.lower() == "ignore":
            raise UserError(f"{path}: an 'ignore' label is not supported: remove it and set its voxels to 0.")
        if number < 0 or number in names:
            raise UserError(f"{path}: label value {number} is negative or named twice: give each value one name.")
        names[number] = name
    names.setdefault(0, "background")
    return dict(sorted(names.items()))


def _parse_channel_names(channels: Any) -> tuple[str, ...]:
    if isinstance(channels, dict):
        keys = sorted(channels, key=lambda key: int(key) if _is_integer(key) else 0)
        return tuple(str(channels[key]) for key in keys)
    if isinstance(channels, list):
        return tuple(str(channel) for channel in channels)
    return (channels,) if isinstance(channels, str) else ()


def _is_integer(text: Any) -> bool:
    try:
        int(text)
    except (TypeError, ValueError):
        return False
    return True


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): mend it or remove it.") from error
    if not isinstance(content, dict):
        raise UserError(f'{path} holds no JSON object: a datalist looks like {{"training": [{{"image": …}}]}}.')
    return content
