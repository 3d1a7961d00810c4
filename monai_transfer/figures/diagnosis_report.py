"""The page of a diagnosis: scores with intervals, curves, confusion, and where the network looked."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_transfer.evaluation.diagnosis_scores import CLASS_METRICS, DiagnosisScores, Interval
from monai_transfer.figures.diagnosis_charts import confusion_figure, diagnosis_curves
from monai_transfer.figures.report import page_environment
from monai_transfer.figures.style import data_uri
from monai_transfer.files import write_text

_OVERALL = ("accuracy", "balanced_accuracy", "brier", "ece")


def write_diagnosis_report(
    path: Path,
    scores: DiagnosisScores,
    *,
    probabilities: NDArray[np.float64],
    targets: NDArray[np.float64],
    pictures: Sequence[Mapping[str, str]] = (),
    run: Mapping[str, Any] | None = None,
    title: str = "Diagnosis",
) -> None:
    """Write the report of one network on one set of examinations.

    Args:
        path: the HTML file.
        scores: its scores.
        probabilities: ``(n, classes)``, for the curves.
        targets: ``(n, classes)`` in 0, 1 and NaN.
        pictures: ``title``, ``note``, ``source`` and ``alt`` of each picture.
        run: what was run, by heading.
        title: stands above the headline.
    """
    rows: list[dict[str, Any]] = [
        {"name": name, "is_mean": False, "cells": [_cell(intervals[metric]) for metric in CLASS_METRICS]}
        for name, intervals in scores.classes.items()
    ]
    means = [_cell(scores.overall[f"mean_{metric}"]) for metric in CLASS_METRICS]
    rows.append({"name": "mean", "is_mean": True, "cells": means})
    curves = diagnosis_curves(probabilities, targets, scores.class_names, exclusive=scores.exclusive)
    confusion = confusion_figure(scores.confusion, scores.class_names) if scores.exclusive else None
    page = {
        "title": title,
        "headline": diagnosis_headline(scores),
        "sentences": [],
        "warnings": diagnosis_warnings(scores),
        "class_metrics": CLASS_METRICS,
        "class_rows": rows,
        "overall_rows": [{"name": name, "cell": _cell(scores.overall[name])} for name in _OVERALL],
        "curves": data_uri(curves, vector=True),
        "confusion": None if confusion is None else data_uri(confusion, vector=True),
        "pictures": pictures,
        "overlays": [],
        "run": run or {},
    }
    write_text(path, page_environment().get_template("diagnosis.html.j2").render(page))


def diagnosis_headline(scores: DiagnosisScores) -> str:
    """The result in one sentence."""
    which = "" if scores.exclusive and len(scores.class_names) == 2 else "Mean "
    patients = "" if scores.patients == scores.exams else f" of {scores.patients} patients"
    balanced = scores.overall["balanced_accuracy"].value
    return f"{which}AUC {scores.auc}, balanced accuracy {balanced:.3f}, on {scores.exams} examinations{patients}."


def diagnosis_warnings(scores: DiagnosisScores) -> list[str]:
    """What lies behind the figures: classes that could not be scored, and chance."""
    found = [
        f"{name} cannot be scored: the examinations are all with it, or all without."
        for name, values in scores.classes.items()
        if math.isnan(values["auc"].value)
    ]
    if scores.auc.low <= 0.5 <= scores.auc.high:
        found.append("The interval of the AUC holds 0.5: these examinations do not tell the network from chance.")
    return found


def _cell(interval: Interval) -> dict[str, str]:
    if math.isnan(interval.value):
        return {"value": "–", "interval": ""}
    ends = "" if math.isnan(interval.low) else f"{interval.low:.2f} to {interval.high:.2f}"
    return {"value": f"{interval.value:.3f}", "interval": ends}
