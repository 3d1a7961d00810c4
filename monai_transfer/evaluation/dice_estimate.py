"""An estimate of the Dice of each label of one image that nobody labelled, with an interval that was measured.

What is seen of a label without the truth (:mod:`monai_transfer.evaluation.label_evidence`) is looked at in held cases
of the source, in appearances of the target and of none, where the truth is known. They teach a line from what is seen
to the Dice. A Dice may lie the farther off the more it lacks to a perfect one; how many times as far is measured on
images that the line was not taught: conformal prediction, normalised by an expected error (Lei et al.,
*Distribution-Free Predictive Inference for Regression*, JASA 2018), by the halves in turn (Vovk, *Cross-conformal
predictors*, AMAI 2015).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.predicted_dice import DicePredictor, KnownLabel

COVERAGE = 0.9
"""Share of the labels whose Dice lies in its interval."""

_SHRINKAGE = 8
"""So many images with an error of 0 are added before a label's own error is averaged: a few images tell little."""

_OF_A_PERFECT_ONE = 0.1
"""What a label of which a Dice of 1 is expected may lack, beside one of which 0 is expected and that may be off by 1.
An error line of its own, taught to a few dozen painted images of the source, did not hold on any target."""

_LEAST_FACTOR = 0.39
"""A factor is at least so large: over thirteen adapted bundles of seven pairs of domains this holds nine in ten true
Dice of the targets. What held source cases ask for, 0.22 to 0.46, says little of what a target does."""


@dataclass(frozen=True)
class DiceEstimate:
    """A Dice that is to be expected, and the interval that holds the true one nine times in ten."""

    dice: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """JSON-ready."""
        return {"dice": round(self.dice, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True)
class LabelLine:
    r"""What is seen of a label to :math:`\hat y + o_k`, by one line for all labels and an offset for each.

    Attributes:
        predictor: gives :math:`\hat y`.
        offsets: label -> :math:`o_k`, by how much it is above the line; thin labels lie below that of the Dice.
    """

    predictor: DicePredictor
    offsets: Mapping[str, float]

    @classmethod
    def fit(cls, known: Sequence[KnownLabel]) -> Self:
        """To labels whose ``dice`` is what is to be told.

        Only agreement under a shift, mean probability and promised Dice are looked at. With all that can be seen a few
        dozen images teach what does not hold elsewhere: that a label of unusual size is wrong, as it is in strange
        appearances, is not true of people.
        """
        reduced = [replace(one, evidence=_telling(one.evidence)) for one in known]
        line = cls(DicePredictor.fit(reduced), {})
        errors: dict[str, list[float]] = {}
        for one in reduced:
            errors.setdefault(one.label, []).append(one.dice - line.at(one.label, one.evidence))
        offsets = {label: float(sum(each)) / (len(each) + _SHRINKAGE) for label, each in errors.items()}
        return replace(line, offsets=offsets)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave."""
        offsets = {str(label): float(offset) for label, offset in content["offsets"].items()}
        return cls(DicePredictor.from_dict(content["predictor"]), offsets)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"predictor": self.predictor.as_dict(), "offsets": dict(self.offsets)}

    def at(self, label: str, evidence: LabelEvidence) -> float:
        """The value that is to be expected of a label, from 0 to 1."""
        return min(1.0, max(0.0, self.predictor.predict(evidence) + self.offsets.get(label, 0.0)))


@dataclass(frozen=True)
class DiceEstimator:
    r"""From what is seen of a label to :math:`\hat d \pm q \, (1.1 - \hat d)`, cut to ``[0, 1]``.

    Attributes:
        dice: gives :math:`\hat d`.
        factor: :math:`q`, at least 0.39.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> known = [
        ...     KnownLabel(str(n), LabelEvidence(1.0, shift=x), x + rng.normal(0, 0.1), label="liver")
        ...     for n, x in enumerate(rng.uniform(0.2, 0.8, 200))
        ... ]
        >>> estimate = DiceEstimator.calibrate(known).estimate("liver", LabelEvidence(1.0, shift=0.5))
        >>> round(estimate.dice, 1), estimate.low < 0.39, estimate.high > 0.61
        (0.5, True, True)
    """

    dice: LabelLine
    factor: float

    @classmethod
    def calibrate(cls, known: Sequence[KnownLabel], *, coverage: float = COVERAGE) -> Self:
        """Learn from all images, and measure the factor on each half of them with what the other half teaches.

        Args:
            known: labels of many images; ``pair`` tells the images apart.
            coverage: of the intervals.

        Raises:
            ValueError: they are too few.
        """
        images = list(dict.fromkeys(one.pair for one in known))
        first = set(images[0::2])
        halves = [[one for one in known if (one.pair in first) is half] for half in (True, False)]
        scores = []
        for taught, held in (halves, halves[::-1]):
            line = LabelLine.fit(taught)
            expected = [(one.dice, line.at(one.label, one.evidence)) for one in held]
            scores += [abs(true - dice) / _expected_error(dice) for true, dice in expected]
        return cls(LabelLine.fit(known), max(_LEAST_FACTOR, conformal_quantile(scores, coverage)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave; bundles made before, of other intervals, get the least factor."""
        return cls(
            LabelLine.from_dict(content.get("dice", content)), float(content.get("relative_factor", _LEAST_FACTOR))
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: the line and the factor."""
        return {"dice": self.dice.as_dict(), "relative_factor": self.factor}

    def estimate(self, label: str, evidence: LabelEvidence) -> DiceEstimate:
        """The Dice of one label in one image."""
        dice = self.dice.at(label, evidence)
        margin = self.factor * _expected_error(dice)
        return DiceEstimate(dice, max(0.0, dice - margin), min(1.0, dice + margin))


def _expected_error(dice: float) -> float:
    return 1 + _OF_A_PERFECT_ONE - dice


def _telling(evidence: LabelEvidence) -> LabelEvidence:
    return LabelEvidence(1.0, shift=evidence.shift, confidence=evidence.confidence, expected=evidence.expected)


def conformal_quantile(errors: Sequence[float] | NDArray[np.float64], coverage: float) -> float:
    r"""The :math:`\lceil (n + 1) \, \mathtt{coverage} \rceil`-th smallest error; infinite where there are too few.

    A further error from the same source then exceeds it with a probability of at most ``1 - coverage``.

    Example:
        >>> conformal_quantile([0.1, 0.4, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9], 0.8)
        0.8
    """
    rank = math.ceil((len(errors) + 1) * coverage - 1e-9)
    return math.inf if rank > len(errors) else float(np.sort(errors)[rank - 1])
