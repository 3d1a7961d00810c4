"""Evaluating a bundle that names classes on labelled examinations: scores with intervals, curves, a page."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_transfer.datasets import ExamDataset
from monai_transfer.figures.diagnosis_report import diagnosis_headline, diagnosis_warnings, write_diagnosis_report
from monai_transfer.files import require_folder, write_record, write_text
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.machine import hardware, versions
from monai_transfer.text import csv_cell
from monai_transfer.workflows.diagnosis_scoring import Answers, ExamProgress, ask


@dataclass(frozen=True)
class DiagnosisEvaluation:
    """What an evaluation found, and the files that say so.

    Attributes:
        answers: what the network said.
        record: the content of ``scores.json``.
        files: ``report.html``, ``scores.json`` and ``scores.csv``.
    """

    answers: Answers
    record: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def complete(self) -> bool:
        """Whether every labelled examination was scored."""
        return not self.answers.failures


def evaluate_diagnosis(
    bundle: str | Path,
    exams: ExamDataset,
    output: Path,
    *,
    device: str = "auto",
    trust: bool = False,
    progress: ExamProgress | None = None,
) -> DiagnosisEvaluation:
    """Score a bundle and write ``scores.csv``, ``scores.json`` and ``report.html`` into ``output``.

    Args:
        bundle: a bundle that names classes.
        exams: labelled examinations.
        output: folder of the three files.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: let a bundle that was not made here run whatever code it names.
        progress: called before each examination.

    Raises:
        UserError: the bundle cannot be used, or no examination can be scored.
    """
    diagnoser = Diagnoser.from_bundle(bundle, device=device, trust=trust)
    answers = ask(diagnoser, exams, progress=progress)
    require_folder(output)
    scores = answers.scores()
    run = {
        "bundle": str(diagnoser.bundle.root),
        "data": str(exams.root),
        "calibration": f"temperature {diagnoser.temperature:g}, thresholds {list(diagnoser.thresholds) or 'none'}",
        "hardware": hardware(),
        "versions": versions(),
    }
    record = {
        "headline": diagnosis_headline(scores),
        "warnings": diagnosis_warnings(scores),
        **scores.as_dict(),
        "failures": answers.failures,
        "run": run,
    }
    files = output / "report.html", output / "scores.json", output / "scores.csv"
    write_text(files[2], _table(answers))
    write_record(files[1], record)
    write_diagnosis_report(
        files[0], scores, probabilities=answers.probabilities, targets=answers.targets, run=run, title="Evaluation"
    )
    return DiagnosisEvaluation(answers, record, files)


def _table(answers: Answers) -> str:
    """One line per examination: what is true and what was said."""
    names = answers.diagnoser.class_names
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    headings = ("name", "patient", *(f"true {name}" for name in names), *(f"said {name}" for name in names))
    table.writerow([csv_cell(heading) for heading in headings])
    for exam, target, said in zip(answers.exams, answers.targets, answers.probabilities, strict=True):
        truth = ["" if value != value else int(value) for value in target]  # NaN is unlike itself
        table.writerow([csv_cell(cell) for cell in (exam.name, exam.patient, *truth, *(round(p, 6) for p in said))])
    return buffer.getvalue()
