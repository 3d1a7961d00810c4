"""The examinations of a training for diagnosis: what it learns from, what it watches, what it is scored on."""

from dataclasses import dataclass, replace
from pathlib import Path

from monai_transfer.datasets import ExamDataset, read_exams
from monai_transfer.errors import UserError

SHARE = 0.2
"""Share of the patients of each class that is held out, and of the others that is watched."""


@dataclass(frozen=True)
class ExamSplit:
    """Labelled examinations of different patients.

    Attributes:
        training: to learn from.
        validation: to watch; temperature and thresholds are chosen on them.
        held: of the final scores.
    """

    training: ExamDataset
    validation: ExamDataset
    held: ExamDataset

    @property
    def everything(self) -> ExamDataset:
        """All of the training's set and its validation's, to be checked together."""
        return replace(self.training, exams=self.training.exams + self.validation.exams)


def choose_exams(data: str | Path, *, test: str | Path | None = None, seed: int = 0) -> ExamSplit:
    """Choose by the data's own splits where there are any, else by patient and class.

    Patients of the test set are taken out of the others.

    Raises:
        UserError: there are no labels, one class only, or too few patients.
    """
    found = read_exams(data)
    labelled = found.labelled
    if not labelled.exams:
        raise UserError(f"{data} says of no examination what it shows: sort the files into a folder per class.")
    if len([count for count in labelled.counts.values() if count]) < (2 if labelled.exclusive else 1):
        raise UserError(f"{data} shows a single class: add examinations of another one.")
    rest, held = labelled, labelled.of_split("test")
    if test is not None:
        held = read_exams(test).labelled.as_classes(labelled.class_names, exclusive=labelled.exclusive)
        if not held.exams:
            raise UserError(f"{test} says of no examination what it shows: omit --test, or add labels.")
    elif not held.exams:
        rest, held = labelled.split(SHARE, seed=seed)
    rest = rest.without_patients(held.patients)
    validation = rest.of_split("validation")
    if validation.exams:
        training = rest.without_patients(validation.patients)
    else:
        training, validation = rest.split(SHARE, seed=seed)
    if not training.exams:
        raise UserError(f"{data} leaves no examination to learn from: add patients, or mend its splits.")
    return ExamSplit(training, validation, held)
