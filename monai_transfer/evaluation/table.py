"""Scores of many cases: means, deviations, counts, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_transfer.evaluation.scores import METRICS, LabelScore, Outcome
from monai_transfer.files import write_text
from monai_transfer.text import csv_cell, one_line


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases: mean and sample standard deviation of each metric, and what was counted.

    A mean runs over the cases in which the metric is defined; NaN where there are none.

    Example:
        >>> from monai_transfer.evaluation import score_case
        >>> truth = np.zeros((8, 8), np.uint8)
        >>> truth[2:6, 2:6] = 1
        >>> table = ScoreTable(tuple(score_case(truth, truth, spacing=(1.0, 1.0), label_names={1: "liver"}, case="a")))
        >>> summary = table.summary("liver")
        >>> summary.mean["dice"], summary.cases, summary.missed
        (1.0, 1, 0)
    """

    label: str
    mean: dict[str, float]
    sd: dict[str, float]
    cases: int
    missed: int
    invented: int
    absent: int


@dataclass(frozen=True)
class ScoreTable:
    """The rows of :func:`~monai_transfer.evaluation.score_case` over the cases of a data set.

    Example:
        >>> from monai_transfer.evaluation import score_case
        >>> truth = np.zeros((8, 8), np.uint8)
        >>> truth[2:6, 2:6] = 1
        >>> table = ScoreTable(tuple(score_case(truth, truth, spacing=(1.0, 1.0), label_names={1: "liver"}, case="a")))
        >>> table.cases, table.labels, table.mean("dice")
        (('a',), ('liver',), 1.0)
    """

    rows: tuple[LabelScore, ...]
    nsd_tolerance_mm: float = 2.0
    without_prediction: tuple[str, ...] = ()
    """Cases that were to be scored and have no prediction; they enter no mean and are always named."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "ScoreTable":
        """Read what :meth:`as_dict` gave."""
        names = LabelScore.__dataclass_fields__
        rows: list[dict[str, Any]] = [
            {k: math.nan if v is None else v for k, v in row.items() if k in names} for row in content["rows"]
        ]
        return cls(
            rows=tuple(LabelScore(**row) for row in rows),
            nsd_tolerance_mm=content["nsd_tolerance_mm"],
            without_prediction=tuple(content["without_prediction"]),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in the order of their values."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    def summary(self, label: str) -> LabelSummary:
        """Summarise one label over the cases."""
        rows = [row for row in self.rows if row.label == label]
        values = {metric: _defined(getattr(row, metric) for row in rows) for metric in METRICS}

        def count(outcome: Outcome) -> int:
            return sum(row.outcome == outcome for row in rows)

        return LabelSummary(
            label=label,
            mean={metric: _mean(defined) for metric, defined in values.items()},
            sd={metric: _sd(defined) for metric, defined in values.items()},
            cases=len(rows),
            missed=count("missed"),
            invented=count("invented"),
            absent=count("absent"),
        )

    @property
    def summaries(self) -> dict[str, LabelSummary]:
        """Every label's summary."""
        return {label: self.summary(label) for label in self.labels}

    def mean(self, metric: str = "dice") -> float:
        """Return the mean over labels of their means: every label weighs the same, in however many cases it occurs."""
        return _mean(_defined(summary.mean[metric] for summary in self.summaries.values()))

    def sd(self, metric: str = "dice") -> float:
        """Return the standard deviation between cases of the case means."""
        return _sd(_defined(self.case_mean(case, metric) for case in self.cases))

    def case_mean(self, case: str, metric: str = "dice") -> float:
        """Return the mean over the labels of one case."""
        return _mean(_defined(getattr(row, metric) for row in self.rows if row.case == case))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; an undefined figure is None."""
        return {
            **self.figures(),
            "nsd_tolerance_mm": self.nsd_tolerance_mm,
            "without_prediction": list(self.without_prediction),
            "rows": [_json_ready({**asdict(row), "outcome": row.outcome}) for row in self.rows],
        }

    def figures(self) -> dict[str, Any]:
        """Return the means alone: ``{"dice": …, "iou": …, …, "cases": n, "per_label": {name: {…}}}``."""
        per_label = {
            label: {
                **s.mean,
                **{f"{metric}_sd": value for metric, value in s.sd.items()},
                "cases": s.cases,
                "missed": s.missed,
                "invented": s.invented,
                "absent": s.absent,
            }
            for label, s in self.summaries.items()
        }
        means = {metric: self.mean(metric) for metric in METRICS}
        ready: dict[str, Any] = _json_ready(
            {**means, "dice_sd": self.sd("dice"), "cases": len(self.cases), "per_label": per_label}
        )
        return ready

    def write_csv(self, path: Path) -> None:
        """Write one line per case and label; an undefined figure is an empty field."""
        text = io.StringIO()
        names = [*LabelScore.__dataclass_fields__, "outcome"]
        writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            figures = {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(row).items()}
            fields = _json_ready({**figures, "outcome": row.outcome})
            writer.writerow({name: csv_cell(value) for name, value in fields.items()})
        write_text(path, text.getvalue())

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_dict`."""
        write_text(path, json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n")


def readable(name: str) -> str:
    """Return a label's name as it is read, in one line: ``left_kidney`` → left kidney."""
    return one_line(name).replace("_", " ")


def _defined(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
