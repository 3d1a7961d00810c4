"""Reading the folder layouts that segmentation data comes in; only names are looked at, no voxels."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from monai_transfer.datasets.cases import Case, CaseDataset
from monai_transfer.datasets.descriptions import Description, find_description, read_description
from monai_transfer.errors import UserError
from monai_transfer.volumes.names import (
    channel_of,
    is_volume,
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


@dataclass
class _Found:
    """What was gathered so far."""

    cases: list[Case]
    stray_labels: list[Path]


def read_dataset(path: str | Path, *, section: Section = "training") -> CaseDataset:
    """Read any of the layouts: Decathlon, nnU-Net raw, ``images``/``labels``, MONAI datalist, or bare volumes.

    Args:
        path: a folder, a datalist, or a single volume.
        section: ``training`` (with ``validation`` of a datalist), ``test``, or ``all`` of it. A data set that has
            only a test section gives that.

    Raises:
        UserError: nothing is there, or the layout is none of these.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise UserError(f"{root} does not exist: give {_KNOWN}.")
    if root.is_file() and is_volume(root):
        return CaseDataset(root, (Case(stem(root), (root,)),))
    if root.is_file() and root.suffix != ".json":
        raise UserError(f"{root} is no volume and no datalist: give {_KNOWN}.")
    if root.is_file():
        description, base = read_description(root), root.parent
    else:
        description, base = find_description(root), root
    from_file = root.is_file() and bool(description.lists)
    wanted: list[str] = ["training", "test"] if section == "all" else [section]
    found = _gather(base, description, wanted, from_file=from_file)
    if not found.cases and section == "training":
        found.cases = _gather(base, description, ["test"], from_file=from_file).cases
    if not found.cases and root.is_dir():
        found.cases = _pair(list_volumes(base), {}, nnunet=False)
    if not found.cases:
        raise UserError(_nothing_there(root, found))
    return CaseDataset(
        root=root,
        cases=tuple(sorted(_uniquely_named(found.cases, base), key=lambda case: natural_key(case.name))),
        label_names=description.label_names,
        channel_names=_channel_names(description, found.cases),
        stray_labels=tuple(found.stray_labels),
    )


def _gather(base: Path, description: Description, sections: list[str], *, from_file: bool) -> _Found:
    """Cases of some sections; folders say what there is, a list adds what it names beyond them."""
    found = _Found([], [])
    for section in sections:
        if not from_file:
            for images, labels in _FOLDERS[section]:
                if (base / images).is_dir():
                    _read_folders(base / images, base / labels, found)
                elif (base / labels).is_dir():
                    found.stray_labels += list_volumes(base / labels)
        known = {image.resolve() for case in found.cases for image in case.images}
        for part in _LISTS[section]:
            listed = [_listed_case(entry, base, description) for entry in description.lists.get(part, [])]
            channels = {case.name: case for case in found.cases}
            found.cases += [
                case
                for case in listed
                if not {image.resolve() for image in case.images} & known and not _is_split(case, channels)
            ]
    return found


def _is_split(case: Case, known: dict[str, Case]) -> bool:
    """Whether a listed image stands for channels that were found: nnU-Net 1 lists ``a`` for ``a_0000``."""
    return case.name in known and not any(image.exists() for image in case.images)


def _read_folders(images: Path, labels: Path, found: _Found) -> None:
    by_stem: dict[str, Path] = {}
    for label in list_volumes(labels):
        if stem(label) in by_stem:
            raise UserError(f"{label} and {by_stem[stem(label)]} are labels of the same case: keep one of them.")
        by_stem[stem(label)] = label
    found.cases += (cases := _pair(list_volumes(images), by_stem, nnunet=images.name in ("imagesTr", "imagesTs")))
    used = {case.label for case in cases}
    found.stray_labels += [label for label in by_stem.values() if label not in used]


def _pair(images: list[Path], labels: dict[str, Path], *, nnunet: bool) -> list[Case]:
    """Cases of image files, one per name or, where the names end in channels, one per group."""
    names = [stem(image) for image in images]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        same = [str(image) for image in images if stem(image) == twice[0]]
        raise UserError(f"{' and '.join(same)} are images of the same case: keep one of them.")
    if not _names_end_in_channels(names, labels, nnunet=nnunet):
        return [Case(name, (image,), labels.get(name)) for name, image in zip(names, images, strict=True)]
    groups: dict[str, dict[int, Path]] = defaultdict(dict)
    for name, image in zip(names, images, strict=True):
        groups[without_channel(name)][channel_of(name) or 0] = image
    return [
        Case(name, tuple(channels[number] for number in sorted(channels)), labels.get(name))
        for name, channels in groups.items()
    ]


def _names_end_in_channels(names: list[str], labels: dict[str, Path], *, nnunet: bool) -> bool:
    """Whether ``_0000`` at the end of every name is a channel and not the number of a case."""
    if not names or any(channel_of(name) is None for name in names):
        return False
    if labels and any(name in labels for name in names):
        return False
    if any(without_channel(name) in labels for name in names):
        return True
    groups: dict[str, set[int | None]] = defaultdict(set)
    for name in names:
        groups[without_channel(name)].add(channel_of(name))
    all_start_at_zero = all(0 in channels for channels in groups.values())
    return all_start_at_zero and (nnunet or len(groups) > 1)


def _listed_case(entry: Any, base: Path, description: Description) -> Case:
    """A case of a datalist's entry: a mapping with ``image`` and perhaps ``label``, or just a path."""
    content = entry if isinstance(entry, dict) else {"image": entry}
    images, label = content.get("image"), content.get("label")
    paths = [path for path in (images if isinstance(images, list) else [images]) if isinstance(path, str)]
    if not all(paths) or not paths or (isinstance(images, list) and len(paths) != len(images)):
        raise UserError(f'{description.path}: the entry {entry!r} names no "image": give each entry the path of one.')
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if label is not None and not isinstance(label, str):
        raise UserError(f'{description.path}: the "label" of {paths[0]} is no path: name one label map.')
    files = tuple(base / path for path in paths)
    name = stem(files[0]) if len(files) == 1 else without_channel(stem(files[0]))
    return Case(name, files, base / label if label else None)


def _uniquely_named(cases: list[Case], base: Path) -> list[Case]:
    """The cases, named by their folders too where files of several folders have equal names."""
    if len({case.name for case in cases}) == len(cases):
        return cases
    renamed = []
    for case in cases:
        try:
            folder = case.images[0].resolve().parent.relative_to(base.resolve())
        except ValueError:
            folder = Path(*case.images[0].resolve().parent.parts[1:])
        renamed.append(Case("_".join([*folder.parts, case.name]), case.images, case.label))
    twice = [name for name, count in Counter(case.name for case in renamed).items() if count > 1]
    if twice:
        raise UserError(f"The case {twice[0]!r} of {base} is there more than once: list each image once.")
    return renamed


def _channel_names(description: Description, cases: list[Case]) -> tuple[str, ...]:
    count = max(len(case.images) for case in cases)
    if len(description.channel_names) == count:
        return description.channel_names
    return ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))


def _nothing_there(root: Path, found: _Found) -> str:
    if found.stray_labels:
        return f"{root} holds labels but no images: put the images into images/ or imagesTr/ under equal names."
    if root.is_dir() and not any(root.iterdir()):
        return f"{root} is empty: give {_KNOWN}."
    return f"{root} holds no volumes that could be read: give {_KNOWN}."
