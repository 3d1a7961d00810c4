"""Checking examinations before anything is trained on them: every file is read once, leakage is a fault."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from monai_transfer.datasets.cases import Fault
from monai_transfer.datasets.exams import Exam, ExamDataset
from monai_transfer.datasets.fingerprint import CaseFacts, case_facts, image_facts, summarise
from monai_transfer.datasets.integrity import CheckReport, Progress
from monai_transfer.errors import UserError
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume, VolumeError


@dataclass(frozen=True)
class ExamReport(CheckReport):
    """What a check of examinations found, beside what every check finds; pictures have no fingerprint.

    Attributes:
        spatial_dims: 2 for pictures, 3 for volumes.
        channels: channels of an image; of pictures 1 where all are grey, however they are stored, else 3.
        size: median pixels or voxels per axis.

    Example:
        >>> ExamReport((), (), None, spatial_dims=2, channels=1, size=(256, 256)).sound
        True
    """

    spatial_dims: int
    channels: int
    size: tuple[int, ...]


@dataclass
class _Findings:
    """What is gathered while the examinations go by."""

    faults: list[Fault]
    warnings: list[Fault] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    channels: Counter[int] = field(default_factory=Counter)
    facts: list[CaseFacts] = field(default_factory=list)
    seen: dict[bytes, Exam] = field(default_factory=dict)


def check_exams(
    dataset: ExamDataset,
    *,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> ExamReport:
    """Read every file once; report what is wrong, what leaks between patients and splits, and what the images are.

    Args:
        dataset: what to check.
        reading: how strictly the files are read; pictures are read besides.
        progress: called after each examination.
    """
    reading = replace(reading, pictures=True)
    found = _Findings(list(dataset.faults))
    for done, exam in enumerate(dataset.exams, start=1):
        _check(exam, dataset, reading, found)
        if progress is not None:
            progress(done, len(dataset.exams), exam.name)
    found.faults += _mixed(dataset, found)
    found.warnings += _rare(dataset)
    dims = Counter(len(shape) for shape in found.shapes).most_common(1)[0][0] if found.shapes else 3
    shapes = [shape for shape in found.shapes if len(shape) == dims]
    return ExamReport(
        faults=tuple(found.faults),
        warnings=tuple(found.warnings),
        spatial_dims=dims,
        channels=max(found.channels, default=len(dataset.channel_names)),
        size=tuple(int(length) for length in np.median(shapes, axis=0)) if shapes else (),
        fingerprint=summarise(found.facts, dataset.channel_names),
    )


def require_sound_exams(dataset: ExamDataset, *, progress: Progress | None = None) -> ExamReport:
    """The report of examinations without faults.

    Raises:
        UserError: there is a fault, or no examination.
    """
    if not dataset.exams:
        raise UserError(f"{dataset.root} holds no examinations: give a folder per class, or a list.")
    report = check_exams(dataset, progress=progress)
    if report.faults:
        message, others = report.faults[0].message.rstrip("."), len(report.faults) - 1
        more = f" ({others} more: monai-transfer check {dataset.root} --task diagnosis)" if others else ""
        raise UserError(f"{message}{more}.")
    return report


def _check(exam: Exam, dataset: ExamDataset, reading: Reading, found: _Findings) -> None:
    try:
        volume = read_volume(exam.images if len(exam.images) > 1 else exam.images[0], reading=reading)
    except VolumeError as error:
        found.faults.append(Fault(exam.images[0], exam.name, error.kind, str(error)))
        return
    found.warnings += [Fault(exam.images[0], exam.name, note.kind, note.message) for note in volume.notes]
    if volume.array.min() == volume.array.max():
        message = f"{volume.path} has the same value ({volume.array.flat[0]:g}) everywhere: export the image again."
        found.faults.append(Fault(volume.path, exam.name, "constant", message))
        return
    found.shapes.append(volume.shape)
    found.channels[_channels(volume)] += 1
    if len(volume.shape) == 3:
        found.facts.append(case_facts(volume, [image_facts(channel) for channel in volume.array], None))
    _compare(exam, volume, dataset, found)


def _compare(exam: Exam, volume: Volume, dataset: ExamDataset, found: _Findings) -> None:
    """Look for the same pixels under another name: between patients, splits or classes they spoil every score."""
    content = hashlib.blake2b(repr(volume.array.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(volume.array).data)
    twin = found.seen.setdefault(content.digest(), exam)
    if twin is exam:
        return
    same = f"{exam.images[0]} has the same pixels as {twin.images[0]}"
    if _differ(twin.target, exam.target):
        message = f"{same} and another label: keep the one that is right."
        found.faults.append(Fault(exam.images[0], exam.name, "contradiction", message))
    elif twin.patient != exam.patient or twin.split != exam.split:
        message = f"{same}, so one patient may stand on both sides of a split: keep one, or give both one patient."
        found.faults.append(Fault(exam.images[0], exam.name, "leakage", message))
    else:
        found.warnings.append(Fault(exam.images[0], exam.name, "duplicate", f"{same}: it counts twice."))


def _channels(volume: Volume) -> int:
    """Channels that say something: many radiographs are stored as colours that are all grey."""
    array = volume.array
    if len(volume.shape) == 3 or len(array) < 3:
        return len(array) if len(volume.shape) == 3 else 1
    return 1 if np.array_equal(array[0], array[1]) and np.array_equal(array[1], array[2]) else 3


def _differ(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    return one is not None and other is not None and not np.array_equal(one, other, equal_nan=True)


def _mixed(dataset: ExamDataset, found: _Findings) -> list[Fault]:
    kinds = {len(shape) for shape in found.shapes}
    if len(kinds) < 2:
        return []
    message = f"{dataset.root} mixes pictures of two axes with volumes of three: keep them in sets of their own."
    return [Fault(Path(dataset.root), "", "mixed", message)]


def _rare(dataset: ExamDataset) -> list[Fault]:
    """Classes of which too few patients are there to learn, watch and test."""
    notes = []
    for number, name in enumerate(dataset.class_names):
        patients = {exam.patient for exam in dataset.exams if exam.target is not None and exam.target[number] == 1}
        if len(patients) < 3:
            message = f"{dataset.root}: the class {name} has {len(patients)} patient(s): scores of it will mean little."
            notes.append(Fault(Path(dataset.root), "", "rare", message))
    return notes
