"""Which examinations a data set holds: a list, or a folder for every class."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_transfer.datasets.cases import Fault, require_name
from monai_transfer.datasets.exam_lists import ExamList, Listed, is_split, read_datalist, read_table, split_word
from monai_transfer.datasets.exams import Exam, ExamDataset
from monai_transfer.errors import UserError
from monai_transfer.volumes.pictures import is_picture
from monai_transfer.volumes.volume import is_volume, natural_key, stem

LISTS = ("diagnosis.csv", "labels.csv", "diagnosis.json")
"""Names of a list that lies in a folder of examinations."""

_ABSENCE = ("healthy", "normal", "negative", "none", "no", "control", "absent", "no finding", "0", "false")
"""Names of the class without a finding, which comes first wherever it is; so the finding is the positive class."""

_KNOWN = (
    f"a folder per class with PNG, JPEG, DICOM or NIfTI files, a CSV table or JSON datalist with image, label and "
    f"patient, or a folder that holds {LISTS[0]}"
)


def read_exams(path: str | Path) -> ExamDataset:
    """Read examinations and what is known of them; no pixels are looked at.

    Known are a CSV table or JSON datalist (see :mod:`monai_transfer.datasets.exam_lists`), a folder that holds one as
    ``diagnosis.csv``, ``labels.csv`` or ``diagnosis.json``, and a folder per class, perhaps inside ``train``, ``val``
    and ``test``. A folder inside of a class is a patient's; else every file is a patient of its own. A folder of files
    without classes is a set of which nothing is known.

    Raises:
        UserError: nothing is there, or it is none of these.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("healthy/a.png", "healthy/b.png", "lesion/c.png"):
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     (root / name).touch()
        >>> read_exams(root).counts
        {'healthy': 2, 'lesion': 1}
    """
    root = Path(path).expanduser()
    try:
        return _read(root)
    except OSError as error:
        raise UserError(
            f"{error.filename or root} cannot be read ({error.strerror}): give yourself the right to read it."
        ) from error


def has_exam_list(root: str | Path) -> bool:
    """Whether a folder holds a list of examinations, one of :data:`LISTS`."""
    return any((Path(root).expanduser() / name).is_file() for name in LISTS)


def _read(root: Path) -> ExamDataset:
    if not root.exists():
        raise UserError(f"{root} does not exist: give {_KNOWN}.")
    lists = [root] if root.is_file() else [root / name for name in LISTS if (root / name).is_file()]
    if lists and _is_image(lists[0]):
        return ExamDataset(root, (Exam(_stem(root), (root,), _stem(root)),))
    if lists:
        return _from_list(root, lists[0])
    return _from_list(root, None)


def _from_list(root: Path, file: Path | None) -> ExamDataset:
    if file is None:
        found, base = ExamList(_walk(root)), Path()  # the walk begins at the root, and its paths with it
    else:
        readers = {".csv": read_table, ".json": read_datalist}
        if file.suffix.lower() not in readers:
            raise UserError(f"{file} is neither an image nor a list of examinations: give {_KNOWN}.")
        found, base = readers[file.suffix.lower()](file), file.parent
    if not found.lines:
        raise UserError(f"{file or root} holds no examinations: give {_KNOWN}.")
    exclusive, names = _classes(found, file or root)
    lines = list(zip(found.lines, _names(found.lines, base, root), strict=True))
    exams = tuple(
        Exam(
            name=name,
            images=tuple(Path(os.path.normpath(base / path)) for path in line.images),
            patient=line.patient or name,
            target=_target(line.label, names),
            split=line.split,
        )
        for line, name in lines
    )
    odd = [line for line in found.lines if len(line.images) != len(found.channel_names) or not all(line.images)]
    if odd:
        raise UserError(f"{odd[0].where}: not every channel ({', '.join(found.channel_names)}) has an image: add it.")
    dataset = ExamDataset(root, exams, names, exclusive, found.channel_names, tuple(_leaks(exams, root)))
    return dataset.only(dataset.names)  # in natural order


def _walk(root: Path) -> list[Listed]:
    """The files of a folder per class, of such folders per split, or of a folder without classes."""
    folders = [folder for folder in _sorted(root) if folder.is_dir()]
    splits = [folder for folder in folders if is_split(folder.name)]
    if splits and len(splits) == len(folders):
        return [line for split in splits for line in _walk_classes(split, split_word(split.name, str(split)))]
    return _walk_classes(root, "")


def _walk_classes(root: Path, split: str) -> list[Listed]:
    lines = []
    for entry in _sorted(root):
        if not entry.is_dir():
            if _is_image(entry):
                lines.append(Listed((str(entry),), None, split=split, where=str(entry)))
            continue
        for inner in _sorted(entry):
            patient = inner.name if inner.is_dir() else ""
            files = _sorted(inner) if inner.is_dir() else [inner]
            lines += [
                Listed((str(file),), entry.name, patient, split, where=str(file)) for file in files if _is_image(file)
            ]
    if any(line.label is None for line in lines) and any(line.label is not None for line in lines):
        stray = next(line for line in lines if line.label is None)
        raise UserError(f"{stray.where} lies beside the folders of the classes: move it into the folder of its class.")
    return lines


def _classes(found: ExamList, where: Path) -> tuple[bool, tuple[str, ...]]:
    """Whether classes exclude each other, and their names."""
    labels = [line.label for line in found.lines if line.label is not None]
    if any(isinstance(label, Mapping) for label in labels):
        if not all(isinstance(label, Mapping) for label in labels):
            raise UserError(f"{where} mixes names of classes with lists of findings: write one kind of label.")
        names = found.class_names or tuple(dict.fromkeys(name for label in labels for name in label))
        return False, names
    shown = {str(label) for label in labels}
    if found.class_names:
        strange = shown - set(found.class_names)
        if strange:
            raise UserError(f"{where}: the class {min(strange)!r} is not one of class_names: add it there.")
        return True, found.class_names
    return True, tuple(sorted(shown, key=lambda name: (name.lower() not in _ABSENCE, natural_key(name))))


def _target(label: str | Mapping[str, float | None] | None, names: Sequence[str]) -> tuple[float, ...] | None:
    if label is None:
        return None
    if isinstance(label, Mapping):
        known = [label.get(name) for name in names]
        target = tuple(math.nan if value is None else value for value in known)
        return None if all(math.isnan(value) for value in target) else target
    return tuple(float(name == label) for name in names)


def _names(lines: Sequence[Listed], base: Path, root: Path) -> list[str]:
    """A name for each line: its own, else that of its file, with the folders before it where files share a name."""
    names = [line.name or _stem(Path(line.images[0])) for line in lines]
    often = Counter(name.casefold() for name in names)
    for place, line in enumerate(lines):
        if often[names[place].casefold()] > 1 and not line.name:
            path = Path(os.path.relpath(base / line.images[0], root if root.is_dir() else base))
            names[place] = "_".join([*(part for part in path.parent.parts if part != ".."), names[place]])
    for name, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            twin = next(line for line, own in zip(lines, names, strict=True) if own.casefold() == name)
            raise UserError(f"{twin.where}: the examination {name!r} is there more than once: list each image once.")
    for name in names:
        require_name(name, root)
    return names


def _leaks(exams: Sequence[Exam], root: Path) -> list[Fault]:
    """Patients that stand on both sides of a split which the data set makes itself."""
    sides: dict[str, set[str]] = defaultdict(set)
    for exam in exams:
        if exam.split:
            sides[exam.patient].add(exam.split)
    leaks = []
    for exam in exams:
        if len(sides.get(exam.patient, ())) > 1:
            where = " and ".join(sorted(sides.pop(exam.patient)))
            message = (
                f"{root}: the patient {exam.patient} stands in {where}, so scores would be too good: keep all "
                "examinations of a patient in one split."
            )
            leaks.append(Fault(exam.images[0], exam.name, "leakage", message))
    return leaks


def _is_image(path: Path) -> bool:
    return is_volume(path) or is_picture(path) or (not path.name.startswith(".") and path.suffix.lower() == ".dcm")


def _stem(path: Path) -> str:
    return stem(path) if is_volume(path) else path.stem


def _sorted(folder: Path) -> list[Path]:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: natural_key(entry.name))
