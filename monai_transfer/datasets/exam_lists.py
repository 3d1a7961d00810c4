"""Lists of examinations: CSV tables and JSON datalists with image, label, patient and split."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_transfer.errors import UserError
from monai_transfer.files import read_object

_COLUMNS = {
    "image": ("image", "path", "file", "filename"),
    "label": ("label", "class", "diagnosis"),
    "patient": ("patient", "patient_id", "subject"),
    "split": ("split", "set"),
    "name": ("name", "case"),
}
"""What a column is -> the headings that say so."""

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    "": "",
}
_UNKNOWN = ("", "nan", "na", "n/a", "?", "unknown")
_TRUTH = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "true": 1.0, "no": 0.0, "yes": 1.0}
_LARGEST_FILE = 256 << 20
"""Bytes; the list of a hospital's million radiographs has a fifth of it."""


@dataclass(frozen=True)
class Listed:
    """One line of a list.

    Attributes:
        images: paths as they are written, one per channel.
        label: the name of the class, finding -> 1, 0 or None, or None where nothing is said.
        patient: who was examined; empty where the list does not say.
        split: ``train``, ``validation``, ``test`` or empty.
        name: of the examination; empty where the list does not say.
        where: the line, for messages.
    """

    images: tuple[str, ...]
    label: str | Mapping[str, float | None] | None
    patient: str = ""
    split: str = ""
    name: str = ""
    where: str = ""


@dataclass(frozen=True)
class ExamList:
    """A list of examinations as it is written.

    Attributes:
        lines: its entries.
        class_names: the classes in the order that the list gives; empty where it gives none.
        channel_names: names of the image columns.
    """

    lines: list[Listed] = field(default_factory=list)
    class_names: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ("image",)


def split_word(text: str, where: str) -> str:
    """What a word says about the split.

    Raises:
        UserError: it is none of train, validation and test.
    """
    word = _SPLIT_WORDS.get(text.strip().lower())
    if word is None:
        raise UserError(f"{where}: the split {text!r} is not known: write train, validation or test.")
    return word


def is_split(name: str) -> bool:
    """Whether a folder's name is that of a split."""
    return bool(_SPLIT_WORDS.get(name.lower()))


def read_table(path: Path) -> ExamList:
    """Read a CSV table.

    One column ``image`` (or ``image_NAME`` for every channel), and either ``label`` with the name of a class, or one
    column per finding with 1, 0 or nothing; ``patient``, ``split`` and ``name`` where they are known.

    Raises:
        UserError: the file cannot be read as a table, or lacks the images.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
        raise UserError(f"{path} is not a file of less than {_LARGEST_FILE >> 20} MB: name a CSV table.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV table ({error}): save it as CSV in UTF-8.") from error
    if not rows or not rows[0]:
        raise UserError(f"{path} is empty: its first line must name the columns, such as image,label,patient.")
    headings = [heading.strip() for heading in rows[0]]
    if len({heading.lower() for heading in headings}) < len(headings):
        raise UserError(f"{path} names a column twice: give every column a name of its own.")
    columns = _columns(headings, path)
    lines = [_line(row, number, headings, columns, path) for number, row in enumerate(rows[1:], start=2) if any(row)]
    findings = tuple(headings[index] for index in columns.findings)
    return ExamList(lines, () if columns.label is not None else findings, columns.channels)


def read_datalist(path: Path) -> ExamList:
    """Read a JSON datalist: ``{"training": [{"image", "label", "patient"}], "validation": […], "test": […]}``.

    A label is the name of a class, its number among ``class_names``, a list of 1, 0 and null with one place for each of
    ``class_names``, or an object of such values by name.

    Raises:
        UserError: the file is no such list.
    """
    content = read_object(path)
    names = content.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(f'{path}: "class_names" is not a list of names: write ["healthy", "lesion"], or remove it.')
    lines = []
    for section, split in (("training", ""), ("validation", "validation"), ("test", "test")):
        entries = content.get(section, [])
        if not isinstance(entries, list):
            raise UserError(f'{path}: "{section}" is not a list: write one object with "image" and "label" per entry.')
        lines += [_entry(entry, split, f"{path}, {section} {n}", names) for n, entry in enumerate(entries, start=1)]
    if any(line.split for line in lines):  # what is listed as training beside other sections is for training
        lines = [line if line.split else replace(line, split="train") for line in lines]
    channels = max((len(line.images) for line in lines), default=1)
    named = content.get("channel_names", [])
    if not isinstance(named, list) or len(named) != channels:
        named = ["image"] if channels == 1 else [f"channel_{n}" for n in range(channels)]
    return ExamList(lines, tuple(names), tuple(map(str, named)))


@dataclass(frozen=True)
class _Columns:
    images: tuple[int, ...]
    channels: tuple[str, ...]
    findings: tuple[int, ...]
    label: int | None
    patient: int | None
    split: int | None
    name: int | None


def _columns(headings: list[str], path: Path) -> _Columns:
    lower = [heading.lower() for heading in headings]
    found = {
        kind: next((lower.index(word) for word in words if word in lower), None) for kind, words in _COLUMNS.items()
    }
    images = [index for index, heading in enumerate(lower) if heading.startswith("image_")]
    if found["image"] is not None:
        images = [found["image"], *images]
    if not images:
        raise UserError(f"{path} has no column of images: name it image (columns are {', '.join(headings)}).")
    taken = {*images, *(index for index in found.values() if index is not None)}
    findings = () if found["label"] is not None else tuple(i for i in range(len(headings)) if i not in taken)
    channels = tuple(headings[index].partition("_")[2] or "image" for index in images)
    return _Columns(tuple(images), channels, findings, found["label"], found["patient"], found["split"], found["name"])


def _line(row: list[str], number: int, headings: list[str], columns: _Columns, path: Path) -> Listed:
    where = f"{path}, line {number}"
    if len(row) != len(headings):
        raise UserError(f"{where} has {len(row)} fields where {len(headings)} columns are named: mend the line.")
    cells = [cell.strip() for cell in row]
    label: str | dict[str, float | None] | None = None
    if columns.label is not None:
        label = cells[columns.label] or None
    elif columns.findings:
        label = {headings[index]: _truth(cells[index], headings[index], where) for index in columns.findings}
    return Listed(
        images=tuple(cells[index] for index in columns.images),
        label=label,
        patient=cells[columns.patient] if columns.patient is not None else "",
        split=split_word(cells[columns.split], where) if columns.split is not None else "",
        name=cells[columns.name] if columns.name is not None else "",
        where=where,
    )


def _truth(text: Any, name: str, where: str) -> float | None:
    """1 or 0 of a cell; ``None`` where nobody knows."""
    word = "" if text is None else str(text).strip().lower()
    if word in _UNKNOWN:
        return None
    if word not in _TRUTH:
        raise UserError(f"{where}: {name} is {str(text)!r}: write 1, 0, or nothing where nobody knows.")
    return _TRUTH[word]


def _entry(entry: Any, split: str, where: str, names: list[str]) -> Listed:
    content = entry if isinstance(entry, dict) else {"image": entry}
    paths = content.get("image")
    paths = paths if isinstance(paths, list) else [paths]
    if not paths or not all(isinstance(path, str) and path.strip() and "\0" not in path for path in paths):
        raise UserError(f'{where}: there is no "image": give each entry the path of one.')
    return Listed(
        images=tuple(paths),
        label=_label(content.get("label"), where, names),
        patient=str(content.get("patient", "")),
        split=split_word(str(content.get("split", split)), where),
        name=str(content.get("name", "")),
        where=where,
    )


def _label(label: Any, where: str, names: list[str]) -> str | dict[str, float | None] | None:
    if label is None or isinstance(label, str):
        return label or None
    if isinstance(label, dict):
        return {str(name): _truth(value, str(name), where) for name, value in label.items()}
    if isinstance(label, list) and len(label) == len(names):
        return {name: _truth(value, name, where) for name, value in zip(names, label, strict=True)}
    if isinstance(label, int) and not isinstance(label, bool):
        if not names:
            return str(label)
        if 0 <= label < len(names):
            return names[label]
    raise UserError(f'{where}: the "label" {label!r} names none of the classes: write a name of class_names.')
