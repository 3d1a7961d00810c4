"""Examinations and what they show: images, the patient, and a target per class."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from monai_transfer.datasets.cases import Fault
from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import natural_key

SPLITS = ("train", "validation", "test")
"""What an examination is for, where its data set says so."""


@dataclass(frozen=True)
class Exam:
    """One examination.

    Attributes:
        name: unique in its data set.
        images: one file per channel.
        patient: who was examined; examinations of one patient never stand on both sides of a split.
        target: 1 where a class is present, 0 where it is not, NaN where nobody knows; one per class. ``None`` where
            nothing is known.
        split: one of :data:`SPLITS`; empty where the data set does not say.

    Example:
        >>> Exam("a_left", (Path("a_left.png"),), patient="a", target=(0.0, 1.0)).patient
        'a'
    """

    name: str
    images: tuple[Path, ...]
    patient: str
    target: tuple[float, ...] | None = None
    split: str = ""


@dataclass(frozen=True)
class ExamDataset:
    """Examinations in natural order of their names.

    Attributes:
        root: the folder or file that was read.
        exams: the examinations.
        class_names: names of the classes; of two that exclude each other the second is the finding.
        exclusive: whether an examination shows exactly one class; else each class is a finding of its own.
        channel_names: one name per file of an examination.
        faults: what the names and the list tell already.

    Example:
        >>> exams = tuple(Exam(name, (Path(f"{name}.png"),), name, (1.0, 0.0)) for name in "abc")
        >>> dataset = ExamDataset(Path("scans"), exams, ("healthy", "ill"))
        >>> len(dataset), dataset.counts
        (3, {'healthy': 3, 'ill': 0})
    """

    root: Path
    exams: tuple[Exam, ...]
    class_names: tuple[str, ...] = ()
    exclusive: bool = True
    channel_names: tuple[str, ...] = ("image",)
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        """Number of examinations."""
        return len(self.exams)

    @property
    def labelled(self) -> Self:
        """The examinations of which something is known."""
        return self._with(exam for exam in self.exams if exam.target is not None)

    @property
    def unlabelled(self) -> Self:
        """The same examinations, their targets put away."""
        return self._with(replace(exam, target=None) for exam in self.exams)

    @property
    def names(self) -> tuple[str, ...]:
        """The examinations' names."""
        return tuple(exam.name for exam in self.exams)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients, each once, in natural order."""
        return tuple(sorted({exam.patient for exam in self.exams}, key=natural_key))

    @property
    def counts(self) -> dict[str, int]:
        """Class -> number of examinations that show it."""
        shown = [exam.target for exam in self.exams if exam.target is not None]
        return {name: sum(target[number] == 1 for target in shown) for number, name in enumerate(self.class_names)}

    def items(self) -> list[dict[str, Any]]:
        """The examinations as a MONAI datalist.

        ``label`` is the number of the class where classes exclude each other, else a float32 array of one target per
        class with NaN for what is not known; there is none where nothing is known.
        """
        return [self._item(exam) for exam in self.exams]

    def only(self, names: Collection[str]) -> Self:
        """The examinations of exactly these names.

        Raises:
            UserError: a name is that of none.
        """
        missing = set(names) - set(self.names)
        if missing:
            raise UserError(f"{self.root} has no examination named {min(missing)!r}: look at the names in its list.")
        wanted = set(names)
        return self._with(exam for exam in self.exams if exam.name in wanted)

    def of_split(self, split: str) -> Self:
        """The examinations that the data set keeps for ``train``, ``validation`` or ``test``."""
        return self._with(exam for exam in self.exams if exam.split == split)

    def without_patients(self, patients: Collection[str]) -> Self:
        """The examinations of other patients than these."""
        return self._with(exam for exam in self.exams if exam.patient not in patients)

    def split(self, share: float, *, seed: int = 0) -> tuple[Self, Self]:
        """Two sets of different patients with alike shares of every class; the second gets ``share`` of them.

        A patient counts for the rarest class among the examinations. Of a class with two patients or more each set
        gets one at least.

        Args:
            share: of the patients of each class that go into the second set.
            seed: of the order in which patients are drawn.

        Raises:
            UserError: there are too few patients.
        """
        held: set[str] = set()
        rng = np.random.default_rng(seed)
        for members in self._strata().values():
            count = round(share * len(members))
            if len(members) > 1:
                count = min(max(1, count), len(members) - 1)
            held.update(members[index] for index in rng.permutation(len(members))[:count])
        if not held or len(held) == len(self.patients):
            raise UserError(
                f"{self.root} holds examinations of {len(self.patients)} patient(s), too few to set some aside: add "
                "patients, or give the sets separately."
            )
        first = self._with(exam for exam in self.exams if exam.patient not in held)
        return first, self._with(exam for exam in self.exams if exam.patient in held)

    def as_classes(self, class_names: Collection[str], *, exclusive: bool) -> Self:
        """The same examinations with their targets in the order of other data's classes.

        Raises:
            UserError: the data know a class that is not among these, or exclude where the others do not.
        """
        names = tuple(class_names)
        if not any(exam.target is not None for exam in self.exams):
            return replace(self, class_names=names, exclusive=exclusive)
        strange = [name for name in self.class_names if name not in names]
        if strange or exclusive != self.exclusive:
            what = f"the class {strange[0]!r}" if strange else "another kind of labels (one class, or findings)"
            raise UserError(f"{self.root} has {what} than is expected: the classes are {', '.join(names)}.")
        places = [self.class_names.index(name) if name in self.class_names else None for name in names]
        absent = 0.0 if exclusive else math.nan
        exams = (
            replace(exam, target=tuple(absent if p is None else exam.target[p] for p in places))
            if exam.target is not None
            else exam
            for exam in self.exams
        )
        return replace(self._with(exams), class_names=names)

    def _item(self, exam: Exam) -> dict[str, Any]:
        paths = [str(path) for path in exam.images]
        item: dict[str, Any] = {"name": exam.name, "image": paths[0] if len(paths) == 1 else paths}
        if exam.target is not None:
            target = np.array(exam.target, np.float32)
            item["label"] = int(target.argmax()) if self.exclusive else target
        return item

    def _strata(self) -> dict[str, list[str]]:
        """Rarest class of a patient -> patients, in natural order."""
        counts: Mapping[str, int] = Counter(self.counts)
        shown: dict[str, set[str]] = defaultdict(set)
        for exam in self.exams:
            targets = exam.target or ()
            shown[exam.patient].update(
                name for name, target in zip(self.class_names, targets, strict=False) if target == 1
            )
        strata: dict[str, list[str]] = defaultdict(list)
        for patient in self.patients:
            strata[min(shown[patient], key=lambda name: (counts[name], name), default="")].append(patient)
        return dict(sorted(strata.items()))

    def _with(self, exams: Iterable[Exam]) -> Self:
        return replace(self, exams=tuple(sorted(exams, key=lambda exam: natural_key(exam.name))))
