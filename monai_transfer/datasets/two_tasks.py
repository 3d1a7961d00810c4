"""Cases of two tasks: a label map, a diagnosis, or both of them."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from monai_transfer.datasets.cases import CaseDataset
from monai_transfer.datasets.exam_layouts import LISTS, has_exam_list, read_exams
from monai_transfer.datasets.exams import Exam, ExamDataset
from monai_transfer.datasets.layouts import read_dataset
from monai_transfer.errors import UserError
from monai_transfer.volumes.volume import Reading


@dataclass(frozen=True)
class TwoTaskDataset:
    """The same cases twice: with their label maps, and with what they show.

    Attributes:
        cases: images and label maps, where there are any.
        exams: of exactly these cases; what is not known of one is ``None``.

    Example:
        >>> from monai_transfer.datasets import Case
        >>> images = {name: (Path(f"{name}.nii.gz"),) for name in "ab"}
        >>> cases = (Case("a", images["a"], Path("a_label.nii.gz")), Case("b", images["b"]))
        >>> exams = tuple(Exam(name, image, patient=name, target=(1.0,)) for name, image in images.items())
        >>> both = TwoTaskDataset(CaseDataset(Path("scans"), cases), ExamDataset(Path("scans"), exams, ("lesion",)))
        >>> both.mapped.cases.names, both.without_map.cases.names
        (('a',), ('b',))
    """

    cases: CaseDataset
    exams: ExamDataset

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.cases)

    @property
    def mapped(self) -> Self:
        """The cases that have a label map."""
        return self.only(self.cases.labelled.names)

    @property
    def without_map(self) -> Self:
        """The cases that have a diagnosis alone."""
        return self.only(set(self.exams.labelled.names) - set(self.cases.labelled.names))

    def only(self, names: Collection[str]) -> Self:
        """The cases of exactly these names."""
        return replace(self, cases=self.cases.only(names), exams=self.exams.only(names))

    def split(self, share: float, *, seed: int = 0) -> tuple[Self, Self]:
        """Two sets of different patients with alike shares of every class; the second gets ``share`` of them.

        Raises:
            UserError: there are too few patients.
        """
        first, second = self.exams.split(share, seed=seed)
        return self.only(first.names), self.only(second.names)

    def items(self) -> list[dict[str, Any]]:
        """A MONAI datalist: the images, ``label`` where there is a map, and ``target``, one number per class.

        Targets are 1 where a class is present, 0 where it is not, and NaN where nobody knows.
        """
        unknown = (math.nan,) * len(self.exams.class_names)
        targets = {exam.name: exam.target or unknown for exam in self.exams.exams}
        return [{**case.as_item(), "target": np.array(targets[case.name], np.float32)} for case in self.cases.cases]


def read_two_tasks(
    path: str | Path,
    *,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> TwoTaskDataset:
    """Read a data set of label maps that has a list of diagnoses beside it, such as ``diagnosis.csv``.

    Cases of which neither is known are left out.

    Args:
        path: a folder that ``read_dataset`` takes.
        reading: how strictly the files are read.

    Raises:
        UserError: there is no such list, it names an examination that is no case, or one of the tasks has no labels.
    """
    root = Path(path).expanduser()
    cases = read_dataset(root, reading=reading)
    if not has_exam_list(root):
        raise UserError(f"{path} has no list of diagnoses: write {LISTS[0]} with the columns image and label.")
    listed = read_exams(root)
    strange = sorted(set(listed.names) - set(cases.names))
    if strange:
        raise UserError(f"{path} lists the examination {strange[0]!r}, which is no case of it: take it off the list.")
    if not cases.labelled.cases or not listed.labelled.exams:
        lacking = "label maps" if listed.labelled.exams else "diagnoses"
        raise UserError(f"{path} has no {lacking}: add some, or train --task for the other labels alone.")
    known = {exam.name: exam for exam in listed.exams}
    exams = [known.get(case.name, Exam(case.name, case.images, case.name)) for case in cases.cases]
    told = set(cases.labelled.names) | set(listed.labelled.names)
    both = TwoTaskDataset(cases, replace(listed, exams=tuple(exams)))
    return both.only(told)
