"""What a bundle says of labelled examinations, how good that is, and what is chosen by it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_transfer.bundle.facts import DIAGNOSIS, inspect_bundle
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.datasets import Exam, ExamDataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation.calibration import choose_threshold, fit_temperature
from monai_transfer.evaluation.diagnosis_scores import RESAMPLES, DiagnosisScores, score_diagnosis
from monai_transfer.inference.diagnoser import Diagnoser

ExamProgress = Callable[[int, int, str], None]
"""Called with (done, all, name)."""


@dataclass(frozen=True)
class Answers:
    """What a network said of labelled examinations.

    Attributes:
        diagnoser: the network.
        exams: those that could be read.
        logits: ``(n, classes)``.
        targets: ``(n, classes)`` in 0, 1 and NaN.
        failures: examination -> why it has no answer.
    """

    diagnoser: Diagnoser = field(repr=False)
    exams: tuple[Exam, ...]
    logits: NDArray[np.float64]
    targets: NDArray[np.float64]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Calibrated by the bundle's temperature, ``(n, classes)``."""
        return self.diagnoser.probabilities(self.logits)

    def scores(self, *, resamples: int = RESAMPLES) -> DiagnosisScores:
        """The scores at the bundle's thresholds."""
        return score_diagnosis(
            self.probabilities,
            self.targets,
            patients=[exam.patient for exam in self.exams],
            class_names=self.diagnoser.class_names,
            exclusive=self.diagnoser.exclusive,
            thresholds=self.diagnoser.thresholds,
            resamples=resamples,
        )


def ask(diagnoser: Diagnoser, exams: ExamDataset, *, progress: ExamProgress | None = None) -> Answers:
    """Run a network over the labelled examinations of a set.

    Args:
        diagnoser: the network.
        exams: their classes must be among the network's.
        progress: called before each examination.

    Raises:
        UserError: no examination could be read, or the classes do not fit.
    """
    labelled = exams.as_classes(diagnoser.class_names, exclusive=diagnoser.exclusive).labelled
    if not labelled.exams:
        raise UserError(f"{exams.root} says of no examination what it shows: add labels to score.")
    logits, told, failures = [], [], {}
    for done, exam in enumerate(labelled.exams):
        if progress is not None:
            progress(done, len(labelled), exam.name)
        try:
            _, image = diagnoser.read(exam.images)
        except UserError as error:
            failures[exam.name] = str(error)
            continue
        logits.append(diagnoser.logits(image))
        told.append(exam)
    if not told:
        raise UserError(next(iter(failures.values())))
    targets = np.array([exam.target for exam in told], np.float64)
    return Answers(diagnoser, tuple(told), np.stack(logits), targets, failures)


def calibrate(bundle: BundleFolder, exams: ExamDataset, *, device: str, sensitivity: float | None = None) -> Answers:
    """Fit temperature and thresholds on examinations that were watched, and write them into the bundle.

    Args:
        bundle: a bundle that names classes; ``temperature`` and ``thresholds`` of its configuration are set.
        exams: labelled, not learnt from.
        device: where to run.
        sensitivity: share of the positives to find; by default the Youden index decides.

    Returns:
        The answers with which they were fitted, before the change.
    """
    config = DIAGNOSIS if inspect_bundle(bundle.root).both else "inference"
    bundle.change(config, {"temperature": 1.0, "thresholds": []})
    answers = ask(Diagnoser.from_bundle(bundle.root, device=device), exams)
    exclusive = answers.diagnoser.exclusive
    temperature = fit_temperature(answers.logits, answers.targets, exclusive=exclusive)
    bundle.change(config, {"temperature": round(temperature, 6)})
    answers = Answers(Diagnoser.from_bundle(bundle.root, device=device), answers.exams, answers.logits, answers.targets)
    bundle.change(config, {"thresholds": _thresholds(answers, sensitivity)})
    return answers


def _thresholds(answers: Answers, sensitivity: float | None) -> list[float]:
    """One per finding; of two classes that of the second; none where the most probable of several is taken."""
    columns = range(answers.targets.shape[1])
    if answers.diagnoser.exclusive:
        columns = range(1, 2) if len(columns) == 2 else range(0)
    chosen = []
    for number in columns:
        known = ~np.isnan(answers.targets[:, number])
        truth = answers.targets[known, number] == 1
        if truth.all() or not truth.any():
            chosen.append(0.5)  # nothing to choose by
            continue
        scores = answers.probabilities[known, number]
        chosen.append(round(choose_threshold(scores, truth, sensitivity=sensitivity), 6))
    return chosen


def score_exams(
    bundle: str | Path, exams: ExamDataset, *, device: str = "auto", trust: bool = False
) -> DiagnosisScores:
    """The scores of a bundle on labelled examinations.

    Raises:
        UserError: none could be scored.
    """
    return ask(Diagnoser.from_bundle(bundle, device=device, trust=trust), exams).scores()
