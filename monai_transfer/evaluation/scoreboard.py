"""Adaptation methods side by side over several seeds: means, spread, share of the gap, cost."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_transfer.evaluation.gap import CHANCE, gap_recovered
from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.scores import METRICS
from monai_transfer.evaluation.table import ScoreTable, readable
from monai_transfer.files import write_record, write_text
from monai_transfer.text import csv_cell

_CSV_FIELDS = ("method", "seed", "label", "dice", "iou", "hd95_mm", "assd_mm", "nsd", "gap_recovered", "seconds",
               "peak_memory_mb")  # fmt: skip


@dataclass(frozen=True)
class ScoredRun:
    """One training of one arm with one seed.

    Attributes:
        table: its scores on the test cases.
        seconds: wall time of the training.
        peak_memory_mb: greatest memory of the process (or, on a GPU, of its tensors there) during the training.
        evidence: name of a label -> what was seen of it in target training images, no label of theirs being read;
            empty where nobody looked.
        estimated: name of a label -> its mean Dice on the test cases as the bundle itself estimates it, without their
            labels; empty where it cannot.

    Example:
        >>> run = ScoredRun(ScoreTable(rows=()), seconds=12.5, peak_memory_mb=900.0)
        >>> run.table.mean("dice"), run.seconds
        (nan, 12.5)
    """

    table: ScoreTable
    seconds: float
    peak_memory_mb: float
    evidence: Mapping[str, LabelEvidence] = field(default_factory=dict)
    estimated: Mapping[str, float] = field(default_factory=dict)


Runs = Mapping[int, ScoredRun]
"""Seed -> run."""


@dataclass(frozen=True)
class Scoreboard:
    """The runs of a comparison; every share of the gap is taken between runs of one seed.

    Attributes:
        source_only: the floor.
        oracle: the ceiling; empty when the target has no labels to train it on.
        methods: name -> its runs.
        failures: name -> why it could not be trained.
        default: the name of the recipe that stands as ``adapted`` in the report.
        hardware: see :func:`~monai_transfer.machine.hardware`.
        versions: see :func:`~monai_transfer.machine.versions`.

    Example:
        >>> board = Scoreboard(source_only={}, oracle={}, methods={})
        >>> board.headline, board.seeds
        ('No method could be trained.', ())
    """

    source_only: Runs
    oracle: Runs
    methods: Mapping[str, Runs]
    failures: Mapping[str, str] = field(default_factory=dict)
    default: str = "Default"
    hardware: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the floor."""
        return tuple(self.source_only)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(dict.fromkeys(label for run in self.source_only.values() for label in run.table.labels))

    def gaps(self, name: str, label: str | None = None) -> dict[int, float]:
        """The share of the gap that a method recovered by seed, where there is a gap.

        Args:
            name: of the method.
            label: of this label's mean Dice; by default of the mean over the labels.
        """
        found = {}
        for seed, run in self.methods[name].items():
            if seed in self.source_only and seed in self.oracle:
                three = (self.source_only[seed], run, self.oracle[seed])
                share = gap_recovered(*(_dice(each.table, label) for each in three))
                if share is not None:
                    found[seed] = share
        return found

    def negative_labels(self, name: str) -> list[str]:
        """Labels whose mean Dice over the seeds is more than 0.005 below source-only's."""
        floors = {seed: run for seed, run in self.source_only.items() if seed in self.methods[name]}
        return [
            label
            for label in self.labels
            if _mean(_dice(run.table, label) for run in self.methods[name].values())
            < _mean(_dice(run.table, label) for run in floors.values()) - CHANCE
        ]

    @property
    def ranked(self) -> list[str]:
        """The methods by mean Dice, best first."""
        return sorted(self.methods, key=lambda name: -_mean(_dice(r.table) for r in self.methods[name].values()))

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        if not self.methods:
            return "No method could be trained."
        best = self.ranked[0]
        dice = _mean(_dice(run.table) for run in self.methods[best].values())
        floor = _mean(_dice(run.table) for run in self.source_only.values())
        shares = self.gaps(best).values()
        end = f"source-only reaches {floor:.2f}"
        if self.oracle:
            end += f", the oracle {_mean(_dice(run.table) for run in self.oracle.values()):.2f}"
        share = f", {100 * _mean(shares):.0f} % of the gap".replace("-", "−") if shares else ""
        return f"{best} scored highest: mean Dice {dice:.2f}{share}; {end}."

    @property
    def warnings(self) -> list[str]:
        """What a reader must know: methods that did harm or failed, few seeds, few subjects."""
        found = [f"{name} made things worse on {', '.join(map(readable, bad))}."
                 for name in self.ranked if (bad := self.negative_labels(name))]  # fmt: skip
        found += [f"{name} could not be trained: {reason}" for name, reason in self.failures.items()]
        if len(self.seeds) < 3:
            found.append(f"Only {len(self.seeds)} seed(s): small differences between methods can be chance.")
        cases = {case for run in self.source_only.values() for case in run.table.cases}
        if len(cases) < 5:
            found.append(f"Scored on {len(cases)} test subject(s) only.")
        found.append("The order of the methods was found on the test subjects: a method picked by it is flattered.")
        return found

    def as_report(self) -> dict[str, Any]:
        """Everything as JSON-ready values; an undefined figure is None."""
        methods = {name: self._method(name) for name in self.ranked}
        adapted = methods.get(self.default)
        return {
            "headline": self.headline,
            "source_only": self._figures(self.source_only),
            "adapted": adapted,
            "oracle": self._figures(self.oracle) if self.oracle else None,
            "gap_recovered": adapted["gap_recovered"] if adapted else None,
            "seeds": list(self.seeds),
            "methods": methods,
            "failures": dict(self.failures),
            "warnings": self.warnings,
            "hardware": dict(self.hardware),
            "versions": dict(self.versions),
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_report`."""
        write_record(path, self.as_report())

    def write_csv(self, path: Path) -> None:
        """Write one line per method, seed and label, and one for the mean over the labels."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=_CSV_FIELDS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        named = {"source_only": self.source_only, "oracle": self.oracle, **self.methods}
        for name, runs in named.items():
            for seed, run in runs.items():
                for label in (*self.labels, None):
                    gap = self.gaps(name, label).get(seed) if name in self.methods else None
                    cost = {"seconds": run.seconds, "peak_memory_mb": run.peak_memory_mb}
                    figures = {metric: _metric(run.table, metric, label) for metric in METRICS}
                    line = {"method": name, "seed": seed, "label": label or "mean", "gap_recovered": gap}
                    writer.writerow({key: _cell(value) for key, value in {**line, **figures, **cost}.items()})
        write_text(path, text.getvalue())

    def _method(self, name: str) -> dict[str, Any]:
        runs, shares = self.methods[name], self.gaps(name)
        figures = self._figures(runs)
        for label in self.labels:
            per_seed = list(self.gaps(name, label).values())
            figures["per_label"][label] |= _spread("gap_recovered", per_seed)
        return {
            **figures,
            **_spread("gap_recovered", list(shares.values())),
            "gap_recovered_per_seed": {str(seed): share for seed, share in shares.items()},
            "negative_labels": self.negative_labels(name),
        }

    def _figures(self, runs: Runs) -> dict[str, Any]:
        """Mean and standard deviation over the seeds of every metric, of each label too, and the cost."""
        every = list(runs.values())
        found: dict[str, Any] = {}
        for metric in METRICS:
            found |= _spread(metric, [_metric(run.table, metric) for run in every])
        found |= _spread("seconds", [run.seconds for run in every])
        found["peak_memory_mb"] = max(run.peak_memory_mb for run in every)
        found["seeds"] = list(runs)
        found["per_label"] = {label: self._label(every, label) for label in self.labels}
        return found

    def _label(self, runs: Sequence[ScoredRun], label: str) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for metric in METRICS:
            figures |= _spread(metric, [_metric(run.table, metric, label) for run in runs])
        return figures


def _metric(table: ScoreTable, metric: str, label: str | None = None) -> float:
    return table.mean(metric) if label is None else table.summary(label).mean[metric]


def _dice(table: ScoreTable, label: str | None = None) -> float:
    return _metric(table, "dice", label)


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation over the seeds."""
    return {name: _finite(_mean(values)), f"{name}_sd": _finite(_over(values, lambda v: float(np.std(v, ddof=1)), 2))}


def _mean(values: Iterable[float]) -> float:
    return _over(values, lambda defined: float(np.mean(defined)), 1)


def _over(values: Iterable[float], what: Callable[[list[float]], float], least: int) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return what(defined) if len(defined) >= least else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return csv_cell(value)
