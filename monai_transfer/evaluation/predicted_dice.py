"""A prediction of the Dice of a label that nobody drew, learnt from runs whose Dice is known."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.scoreboard import Scoreboard
from monai_transfer.files import write_text
from monai_transfer.text import csv_cell

QUANTITIES = tuple(field.name for field in fields(LabelEvidence))

_FEWEST_EACH = 3

FEWEST = _FEWEST_EACH * len(QUANTITIES)
"""So many known labels at least: with fewer a straight line through all quantities fits anything."""

_RIDGE = 1.0
"""Weight of the penalty, of quantities in standard deviations: what hardly varies is hardly used."""

_UNUSED = (0.0, 1.0, 0.0)

_EDGES = ("size",)
"""Quantities whose distance from 0 tells, whatever its sign: twice as large is as wrong as half."""


@dataclass(frozen=True)
class KnownLabel:
    """One label of one run whose Dice is known.

    Attributes:
        pair: the pair of domains.
        evidence: what was seen without labels.
        dice: mean Dice on the test cases.
        arm: what was trained.
        seed: with which seed.
        label: its name.
    """

    pair: str
    evidence: LabelEvidence
    dice: float
    arm: str = ""
    seed: int = 0
    label: str = ""


@dataclass(frozen=True)
class DicePredictor:
    r"""Dice of a label as a linear function of its evidence, cut to ``[0, 1]``.

    .. math:: \hat d = \beta_0 + \sum_k \beta_k \frac{x_k - m_k}{s_k}

    with :math:`m_k, s_k` the mean and deviation over the known labels, and :math:`\beta` from ridge regression. A
    quantity that could not be measured counts as its mean. A line is all that a few hundred runs of a few pairs can
    carry: runs of one pair are alike.

    Attributes:
        mean: of every quantity, ``(quantities,)``.
        deviation: the same.
        weights: :math:`\beta_1, \dots`, ``(quantities,)``.
        intercept: :math:`\beta_0`, the mean Dice.

    Example:
        >>> known = [KnownLabel("a", LabelEvidence(found=1.0, noise=x / 40), x / 40) for x in range(40)]
        >>> predictor = DicePredictor.fit(known)
        >>> round(predictor.predict(LabelEvidence(found=1.0, noise=0.5)), 2)
        0.5
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float

    @classmethod
    def fit(cls, known: Sequence[KnownLabel]) -> Self:
        """Fit to labels whose Dice is known; every pair weighs the same, however many runs it has.

        Raises:
            ValueError: there are fewer than three for each quantity that was measured.
        """
        values = np.array([_values(one.evidence) for one in known]).reshape(-1, len(QUANTITIES))
        fewest = _FEWEST_EACH * max(1, int(np.isfinite(values).any(0).sum()))
        if len(known) < fewest:
            raise ValueError(f"{len(known)} known labels are too few: a prediction needs at least {fewest}")
        dice = np.array([one.dice for one in known])
        pairs = [one.pair for one in known]
        share = np.array([1 / pairs.count(pair) for pair in pairs])
        share *= len(known) / share.sum()
        measured = np.isfinite(values)
        total = np.where(measured, share[:, None], 0.0).sum(0)
        mean = np.where(measured, values * share[:, None], 0.0).sum(0) / np.maximum(total, 1e-12)
        centred = np.where(measured, values - mean, 0.0)
        deviation = np.sqrt((share[:, None] * centred**2).mean(0))
        x = centred / np.maximum(deviation, 1e-6)
        intercept = float((share * dice).mean())
        # normal equations of weighted ridge regression; standardised, so that the intercept stands apart
        gram = (x * share[:, None]).T @ x + _RIDGE * np.eye(len(QUANTITIES))
        weights = np.linalg.solve(gram, (x * share[:, None]).T @ (dice - intercept))
        return cls(mean, deviation, weights, intercept)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave; a quantity that it does not know has no weight."""
        known = content["quantities"]
        columns = [[known.get(name, _UNUSED)[column] for name in QUANTITIES] for column in range(3)]
        mean, deviation, weights = (np.array(column, dtype=np.float64) for column in columns)
        return cls(mean, deviation, weights, float(content["intercept"]))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: quantity -> mean, deviation and weight; and the intercept."""
        rows = zip(QUANTITIES, self.mean.tolist(), self.deviation.tolist(), self.weights.tolist(), strict=True)
        return {"intercept": self.intercept, "quantities": {name: figures for name, *figures in rows}}

    def predict(self, evidence: LabelEvidence) -> float:
        """The Dice that is to be expected."""
        values = np.array(_values(evidence))
        x = np.where(np.isfinite(values), values - self.mean, 0.0) / np.maximum(self.deviation, 1e-6)
        return float(np.clip(self.intercept + x @ self.weights, 0.0, 1.0))


def learn_dice(known: Iterable[KnownLabel], kept_back: Sequence[str] = ()) -> DicePredictor | None:
    """A prediction that is learnt on all pairs but those kept back; ``None`` where they have too few known labels."""
    taught = [one for one in known if one.pair not in kept_back]
    return DicePredictor.fit(taught) if len(taught) >= FEWEST else None


def known_labels(pair: str, board: Scoreboard) -> list[KnownLabel]:
    """Every label of every run of a pair that was looked at without labels and scored with them."""
    arms = {"source_only": board.source_only, "oracle": board.oracle, **board.methods}
    return [
        KnownLabel(pair, run.evidence[label], dice, arm, seed, label)
        for arm, runs in arms.items()
        for seed, run in runs.items()
        for label, summary in run.table.summaries.items()
        if label in run.evidence and math.isfinite(dice := summary.mean["dice"])
    ]


def write_known_labels(path: Path, known: Iterable[KnownLabel]) -> None:
    """Write one CSV line per label and run: its Dice, and all that was seen of it without labels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("pair", "method", "seed", "label", "dice", *QUANTITIES))
    for one in known:
        names = (csv_cell(value) for value in (one.pair, one.arm, one.seed, one.label))
        figures = (one.dice, *one.evidence.as_dict().values())
        writer.writerow((*names, *("" if value is None else round(value, 6) for value in figures)))
    write_text(path, text.getvalue())


def prediction_errors(known: Iterable[KnownLabel], kept_back: Sequence[str] = ()) -> dict[str, float]:
    """Mean absolute error on each pair of a prediction that was learnt on all others.

    Args:
        known: labels of all pairs.
        kept_back: pairs that nothing is learnt from.

    Returns:
        Pair -> error; pairs whose others have too few known labels are left out.
    """
    by_pair: dict[str, list[KnownLabel]] = {}
    for one in known:
        by_pair.setdefault(one.pair, []).append(one)
    errors = {}
    for pair, own in by_pair.items():
        others = [one for other, labels in by_pair.items() if other != pair for one in labels]
        if (predictor := learn_dice(others, kept_back)) is not None:
            errors[pair] = float(np.mean([abs(predictor.predict(one.evidence) - one.dice) for one in own]))
    return errors


def own_errors(boards: Mapping[str, Scoreboard]) -> dict[str, float]:
    """Pair -> mean absolute error of the mean Dice of a label as the adapted bundles themselves estimate it."""
    errors = {}
    for pair, board in boards.items():
        off = [
            abs(run.estimated[label] - summary.mean["dice"])
            for runs in board.methods.values()
            for run in runs.values()
            for label, summary in run.table.summaries.items()
            if label in run.estimated and math.isfinite(summary.mean["dice"])
        ]
        if off:
            errors[pair] = float(np.mean(off))
    return errors


def _values(evidence: LabelEvidence) -> list[float]:
    """The quantities as numbers; NaN where one could not be measured."""
    values = {name: math.nan if value is None else value for name, value in evidence.as_dict().items()}
    return [abs(value) if name in _EDGES else value for name, value in values.items()]
