"""Checking a data set before anything is trained on it: each file is read once, each fault is one sentence."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_transfer.datasets.cases import Case, CaseDataset, Fault
from monai_transfer.datasets.fingerprint import CaseFacts, Fingerprint, case_facts, image_facts, summarise
from monai_transfer.datasets.label_values import LabelMap, LabelValueError, judge_values, read_values
from monai_transfer.errors import UserError
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume, VolumeError, largest_shift, orientation_code, same_grid

Progress = Callable[[int, int, str], None]
"""Called with (cases done, all cases, name of the case)."""


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        faults: what must be mended before training.
        warnings: what is odd but can be used.
        fingerprint: figures over the sound cases; none when there are none.

    Example:
        >>> report = check_dataset(CaseDataset(Path("scans"), (Case("a", (Path("a.nii.gz"),)),)))
        >>> report.sound, report.faults[0].message
        (False, 'a.nii.gz does not exist: restore the file or take it off the list.')
    """

    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    fingerprint: Fingerprint | None

    @property
    def sound(self) -> bool:
        """Whether there are no faults."""
        return not self.faults


@dataclass
class _Findings:
    """What is gathered while the cases go by."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    facts: dict[str, CaseFacts] = field(default_factory=dict)
    maps: list[LabelMap] = field(default_factory=list)
    seen: dict[bytes, Path] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def fault(self, path: Path, case: Case, kind: str, message: str) -> None:
        self.faults.append(Fault(path, case.name, kind, message))

    def warn(self, path: Path, case: Case, kind: str, message: str) -> None:
        self.warnings.append(Fault(path, case.name, kind, message))


def check_dataset(dataset: CaseDataset, *, progress: Progress | None = None) -> CheckReport:
    """Read every file once and report what is wrong, and the fingerprint of what is not.

    Args:
        dataset: what to check.
        progress: called after each case.
    """
    findings = _Findings(list(dataset.faults), list(dataset.warnings), reading=dataset.reading)
    for done, case in enumerate(dataset.cases, start=1):
        _check_case(case, dataset.channel_names, findings)
        if progress is not None:
            progress(done, len(dataset.cases), case.name)
    faults, warnings = judge_values(findings.maps, dataset.label_names, dataset.root)
    faults, warnings = findings.faults + faults, findings.warnings + warnings
    unsound = {fault.case for fault in faults}
    facts = [facts for name, facts in findings.facts.items() if name not in unsound]
    return CheckReport(
        tuple(faults), (*warnings, *_odd_intensities(dataset, facts)), summarise(facts, dataset.channel_names)
    )


def require_sound(dataset: CaseDataset, *, labelled: bool, progress: Progress | None = None) -> Fingerprint:
    """The fingerprint of a data set without faults.

    Args:
        dataset: what is about to be used.
        labelled: whether it must have labels.
        progress: called after each case.

    Raises:
        UserError: there is a fault, no case, or no label where labels are needed.
    """
    if not dataset.cases:
        raise UserError(f"{dataset.root} holds no cases: give a folder with images.")
    if labelled and not any(case.label is not None for case in dataset.cases):
        raise UserError(
            f"{dataset.root} has no labels: put label maps into labels/ or labelsTr/ under the images' names."
        )
    report = check_dataset(dataset, progress=progress)
    if report.faults:
        message, others = report.faults[0].message, len(report.faults) - 1
        more = f" ({others} more: monai-transfer check {dataset.root})." if others else ""
        raise UserError(message.rstrip(".") + more if more else message)
    if report.fingerprint is None:
        raise UserError(f"{dataset.root} holds no sound case: run monai-transfer check {dataset.root}.")
    return report.fingerprint


def _check_case(case: Case, channel_names: Sequence[str], findings: _Findings) -> None:
    before = len(findings.faults)
    first: Volume | None = None
    images = []
    for path in case.images:
        volume = _read(path, case, findings)
        if volume is None:
            return  # one fault a case: where one file was not fetched, others were not either
        _check_image(path, volume, case, findings)
        if first is None:
            first = volume
        else:
            _check_grid(path, volume, case.images[0], first, case, findings)
        if len(findings.faults) == before:
            images += [image_facts(channel) for channel in volume.array]
    if len(findings.faults) == before and len(images) != len(channel_names):
        message = (
            f"{case.images[0]} belongs to a case with {len(images)} channel(s) where {len(channel_names)} are known "
            f"({', '.join(channel_names)}): give every case the channels that dataset.json names as channel_names."
        )
        findings.fault(case.images[0], case, "channels", message)
    assert first is not None, "a case has an image"
    label = _check_label(case, first, findings)
    if len(findings.faults) == before:
        findings.facts[case.name] = case_facts(first, images, label)


def _read(path: Path, case: Case, findings: _Findings) -> Volume | None:
    try:
        volume = read_volume(path, reading=findings.reading)
    except VolumeError as fault:
        message = str(fault)
        if fault.kind == "missing" and len(case.images) > 1 and path in case.images:
            message = (
                f"{path} is missing, the channel {case.images.index(path):04d} of {case.name}: restore the file, or "
                "give every case the same channels."
            )
        findings.fault(path, case, fault.kind, message)
        return None
    for note in volume.notes:
        findings.warn(path, case, note.kind, note.message)
    if len(volume.shape) != 3:
        findings.fault(path, case, "not_3d", f"{path} is a picture of two axes: give a volume with several slices.")
        return None
    if len(volume.array) > 1 and case.images != (path,):
        message = f"{path} has {len(volume.array)} volumes where one is expected: give one volume per file."
        findings.fault(path, case, "not_3d", message)
        return None
    return volume


def _check_image(path: Path, volume: Volume, case: Case, findings: _Findings) -> None:
    content = hashlib.blake2b(repr(volume.array.shape).encode(), digest_size=16)
    for channel in volume.array:
        if channel.min() == channel.max():
            which = path if len(volume.array) == 1 else f"A channel of {path}"
            message = f"{which} has the same value ({channel.flat[0]:g}) everywhere: export the scan again."
            findings.fault(path, case, "constant", message)
            return
        content.update(np.ascontiguousarray(channel.ravel(order="K")).data)
    twin = findings.seen.setdefault(content.digest(), path)
    if twin != path:
        message = f"{path} has the same voxels as {twin}: keep one, or a subject stands on both sides of a split."
        findings.fault(path, case, "duplicate", message)


def _check_label(case: Case, image: Volume, findings: _Findings) -> LabelMap | None:
    """The values of the case's label; none when there is no label or it cannot be used."""
    path = case.label
    if path is None or (volume := _read(path, case, findings)) is None:
        return None
    _check_grid(path, volume, case.images[0], image, case, findings)
    if np.array_equal(volume.array, image.array):
        message = f"{path} has the voxels of its image {case.images[0]}: give the label map."
        findings.fault(path, case, "label_values", message)
        return None
    try:
        label = read_values(case, path, volume.array)
    except LabelValueError as error:
        findings.fault(path, case, "label_values", str(error))
        return None
    findings.maps.append(label)
    return label


def _check_grid(path: Path, volume: Volume, image_path: Path, image: Volume, case: Case, findings: _Findings) -> None:
    """Whether a label or a further channel lies on the grid of the case's first image."""
    turned = volume.turned_like(image.affine)
    if turned.shape != image.shape:
        message = (
            f"{path} has {_times(volume.shape)} voxels but {image_path} has {_times(image.shape)}: "
            "resample it onto the image's grid."
        )
        findings.fault(path, case, "grid_shape", message)
        return
    if not same_grid(turned.affine, image.affine, image.shape):
        shift = largest_shift(turned.affine, image.affine, image.shape)
        message = f"{path} lies up to {shift:.2f} mm off {image_path}: resample it onto the image's grid."
        findings.fault(path, case, "grid_affine", message)
    elif orientation_code(volume.affine) != orientation_code(image.affine):
        codes = f"{orientation_code(volume.affine)} and its image as {orientation_code(image.affine)}"
        findings.warn(path, case, "orientation", f"{path} is stored as {codes}: both are turned while reading.")


def _odd_intensities(dataset: CaseDataset, facts: list[CaseFacts]) -> list[Fault]:
    modalities = Counter(case.images[0].modality for case in facts)
    if len(modalities) < 2:
        return []
    message = (
        f"{dataset.root} seems to mix CT ({modalities['ct']}) and MR ({modalities['mr']}) by its intensities: "
        "keep one modality per data set."
    )
    return [Fault(dataset.root, "", "modalities", message)]


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)
