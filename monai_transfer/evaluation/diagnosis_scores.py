r"""Scores of a diagnosis with 95 % intervals: what a threshold decides, how scores rank, how far they can be believed.

The intervals are percentiles of a bootstrap over *patients*: a resample draws patients with replacement and takes all
their examinations, for two images of one person say less than one image of two (Efron and Tibshirani 1993).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_transfer.evaluation.calibration import expected_calibration_error
from monai_transfer.evaluation.ranking import Floats, average_precision, roc_auc

RESAMPLES = 1000
"""Resamples of the bootstrap: the ends of an interval then move by about a fiftieth of its width."""

CLASS_METRICS = ("auc", "average_precision", "precision", "recall", "specificity", "f1")
"""Scores of each class against the others."""

_CHUNK = 100
"""Resamples that are worked on at once, to bound the memory."""


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % interval.

    Attributes:
        value: on all examinations; NaN where it is not defined.
        low: the lower end; NaN where fewer than half of the resamples define the score.
        high: the upper end.

    Example:
        >>> str(Interval(0.9123, 0.853, 0.96)), str(Interval(math.nan))
        ('0.912 (0.853 to 0.960)', '–')
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """``0.912 (0.853 to 0.960)``."""
        if math.isnan(self.value):
            return "–"
        interval = "" if math.isnan(self.low) else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{interval}"

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which knows no NaN."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in parts.items()}


@dataclass(frozen=True)
class DiagnosisScores:
    """The scores of one network on one set of examinations.

    Attributes:
        class_names: the classes.
        exclusive: whether they exclude each other.
        classes: class -> score -> interval.
        overall: score -> interval, with the mean over classes of each score of ``classes`` as ``mean_…``.
        confusion: examinations by true and predicted class, ``(classes, classes)``; of findings ``(classes, 2, 2)``.
        exams: how many were scored.
        patients: of how many patients.

    Example:
        >>> p, truth = np.array([[0.9, 0.1], [0.2, 0.8]]), np.eye(2)
        >>> scores = score_diagnosis(p, truth, patients=["a", "b"], class_names=["no", "yes"], exclusive=True)
        >>> scores.auc.value, scores.exams
        (1.0, 2)
    """

    class_names: tuple[str, ...]
    exclusive: bool
    classes: dict[str, dict[str, Interval]]
    overall: dict[str, Interval]
    confusion: NDArray[np.int64] = field(repr=False)
    exams: int
    patients: int

    @property
    def auc(self) -> Interval:
        """The area under the ROC curve: of two classes that of the finding, else the mean over classes."""
        if self.exclusive and len(self.class_names) == 2:
            return self.classes[self.class_names[1]]["auc"]
        return self.overall["mean_auc"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "auc": self.auc.as_dict(),
            "overall": {name: interval.as_dict() for name, interval in self.overall.items()},
            "classes": {
                name: {metric: interval.as_dict() for metric, interval in scores.items()}
                for name, scores in self.classes.items()
            },
            "confusion": self.confusion.tolist(),
            "exams": self.exams,
            "patients": self.patients,
        }


def decide(probabilities: Floats, *, exclusive: bool, thresholds: Sequence[float] = ()) -> NDArray[np.bool_]:
    """Which classes a case is said to have, ``(n, classes)``.

    Of two classes that exclude each other the second is named from its threshold on, of more the most probable one;
    every finding from its own threshold on. A threshold that is not given is 0.5.

    Example:
        >>> decide(np.array([[0.7, 0.3]]), exclusive=True, thresholds=[0.25]).tolist()
        [[False, True]]
    """
    if not exclusive:
        return np.asarray(probabilities >= np.asarray(thresholds or [0.5] * probabilities.shape[1]))
    if probabilities.shape[1] == 2:
        positive = probabilities[:, 1] >= (thresholds[0] if thresholds else 0.5)
        return np.stack([~positive, positive], axis=1)
    return np.asarray(np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(1)])


def score_diagnosis(
    probabilities: Floats,
    targets: Floats,
    *,
    patients: Sequence[str],
    class_names: Sequence[str],
    exclusive: bool,
    thresholds: Sequence[float] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DiagnosisScores:
    """Score probabilities against what is known.

    Args:
        probabilities: ``(n, classes)``.
        targets: ``(n, classes)`` in 0, 1 and NaN.
        patients: whose examination each is.
        class_names: the classes.
        exclusive: whether they exclude each other.
        thresholds: see :func:`decide`.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
        >>> truth = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> names = ["healthy", "ill"]
        >>> scores = score_diagnosis(p, truth, patients=list("abcd"), class_names=names, exclusive=True, resamples=0)
        >>> scores.auc.value, scores.confusion.tolist()
        (1.0, [[2, 0], [0, 2]])
    """
    said = decide(probabilities, exclusive=exclusive, thresholds=thresholds)
    data = _Data(probabilities, targets, said, exclusive)
    value = data.scores(np.ones((1, len(targets))))
    draws: dict[str, list[Floats]] = {name: [] for name in value}
    for weights in _resampled(patients, resamples, seed):
        for name, numbers in data.scores(weights).items():
            draws[name].append(numbers)
    intervals = {name: _interval(float(numbers[0]), draws[name]) for name, numbers in value.items()}
    classes = {
        name: {metric: intervals[f"{number}/{metric}"] for metric in CLASS_METRICS}
        for number, name in enumerate(class_names)
    }
    overall = {name: interval for name, interval in intervals.items() if "/" not in name}
    return DiagnosisScores(
        tuple(class_names), exclusive, classes, overall, data.confusion(), len(targets), len(set(patients))
    )


@dataclass(frozen=True)
class _Data:
    """Probabilities, truth and decisions, scored under any weights of the examinations."""

    probabilities: Floats
    targets: Floats
    said: NDArray[np.bool_]
    exclusive: bool

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Score -> values ``(resamples,)`` under weights ``(resamples, n)``."""
        found: dict[str, Floats] = {}
        for number in range(self.targets.shape[1]):
            for metric, values in self._of_class(number, weights).items():
                found[f"{number}/{metric}"] = values
        count = self.targets.shape[1]
        for metric in CLASS_METRICS:
            found[f"mean_{metric}"] = _mean([found[f"{number}/{metric}"] for number in range(count)])
        return {**found, **self._overall(weights, [found[f"{number}/recall"] for number in range(count)])}

    def confusion(self) -> NDArray[np.int64]:
        """Examinations by truth and decision."""
        if self.exclusive:
            return np.asarray(self.targets.T.astype(int) @ self.said.astype(int), np.int64)
        tables = []
        for target, said in zip(self.targets.T, self.said.T, strict=True):
            known = ~np.isnan(target)
            table = np.zeros((2, 2), np.int64)
            np.add.at(table, (target[known].astype(int), said[known].astype(int)), 1)
            tables.append(table)
        return np.stack(tables)

    def _of_class(self, number: int, weights: Floats) -> dict[str, Floats]:
        known = ~np.isnan(self.targets[:, number])
        truth = self.targets[known, number] == 1
        said, scores, weights = self.said[known, number], self.probabilities[known, number], weights[:, known]
        hits, misses = weights @ (truth & said), weights @ (truth & ~said)
        alarms, rest = weights @ (~truth & said), weights @ (~truth & ~said)
        return {
            "auc": roc_auc(scores, truth, weights),
            "average_precision": average_precision(scores, truth, weights),
            "precision": _ratio(hits, hits + alarms),
            "recall": _ratio(hits, hits + misses),
            "specificity": _ratio(rest, rest + alarms),
            "f1": _ratio(2 * hits, 2 * hits + alarms + misses),
        }

    def _overall(self, weights: Floats, recalls: list[Floats]) -> dict[str, Floats]:
        known = ~np.isnan(self.targets)
        truth = np.nan_to_num(self.targets)
        if self.exclusive:
            right = (truth * self.said).sum(1)
            error = ((self.probabilities - truth) ** 2).sum(1)
            if truth.shape[1] == 2:  # the two errors are the same number: the score of two classes counts it once
                error = error / 2
            best = self.probabilities.argmax(1)
            sure, sure_right = self.probabilities.max(1), truth[np.arange(len(truth)), best]
            each = weights
            balanced = _mean(recalls)
        else:
            right, error = (
                (values * known)[known] for values in (truth == self.said, (self.probabilities - truth) ** 2)
            )
            sure, sure_right = self.probabilities[known], truth[known]
            each = np.repeat(weights, known.sum(1), axis=1)  # every known finding of an examination counts
            specificities = [self._of_class(number, weights)["specificity"] for number in range(truth.shape[1])]
            balanced = (_mean(recalls) + _mean(specificities)) / 2
        return {
            "accuracy": _ratio(each @ right, each.sum(1)),
            "balanced_accuracy": balanced,
            "brier": _ratio(each @ error, each.sum(1)),
            "ece": expected_calibration_error(sure, sure_right, each),
        }


def _resampled(patients: Sequence[str], resamples: int, seed: int) -> list[Floats]:
    """Weights ``(chunk, n)``: how often each examination's patient was drawn."""
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    rng = np.random.default_rng(seed)
    chunks = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
        chunks.append(drawn[:, owner].astype(np.float64))
    return chunks


def _interval(value: float, draws: list[Floats]) -> Interval:
    numbers = np.concatenate(draws) if draws else np.zeros(0)
    defined = numbers[~np.isnan(numbers)]
    if math.isnan(value) or len(defined) <= len(numbers) / 2:
        return Interval(value)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part / whole, np.float64)


def _mean(values: Sequence[Floats]) -> Floats:
    """Mean over the classes for which a score is defined."""
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    return _ratio(np.where(defined, stacked, 0).sum(0), defined.sum(0))
