"""An estimate of the Dice of each label of one image that nobody labelled, with an interval that was measured.

What is seen of a label without the truth (:mod:`monai_transfer.evaluation.label_evidence`) is looked at in held cases
of the source, in the random appearances that the training uses anyway, where the truth is known. One half of them
teaches a line from what is seen to the Dice, the other half tells how far the line is off: split conformal prediction
(Lei et al., *Distribution-Free Predictive Inference for Regression*, JASA 2018).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.predicted_dice import DicePredictor, KnownLabel

COVERAGE = 0.9
"""Share of the labels whose Dice lies in its interval."""

_SHRINKAGE = 8
"""So many images with an error of 0 are added before a label's own error is averaged: a few images tell little."""


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
class DiceEstimator:
    r"""From what is seen of a label to :math:`\hat d + o_k \pm m_k`, cut to ``[0, 1]``.

    Attributes:
        predictor: gives :math:`\hat d`, by one line for all labels.
        offsets: label -> :math:`o_k`, by how much the label is better than the line says, as thin ones are not.
        margins: label -> :math:`m_k`; a label that is not among them has the largest.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> known = [
        ...     KnownLabel(str(n), LabelEvidence(1.0, noise=x), x + rng.normal(0, 0.02), label="liver")
        ...     for n, x in enumerate(rng.uniform(0.2, 0.8, 200))
        ... ]
        >>> estimate = DiceEstimator.calibrate(known).estimate("liver", LabelEvidence(1.0, noise=0.5))
        >>> round(estimate.dice, 1), estimate.low < 0.49, estimate.high > 0.51
        (0.5, True, True)
    """

    predictor: DicePredictor
    offsets: Mapping[str, float]
    margins: Mapping[str, float]

    @classmethod
    def calibrate(cls, known: Sequence[KnownLabel], *, coverage: float = COVERAGE) -> Self:
        """Learn from one half of the images, and measure the margins on the other.

        Args:
            known: labels of many images; ``pair`` tells the images apart.
            coverage: of the intervals.

        Raises:
            ValueError: they are too few.
        """
        images = list(dict.fromkeys(one.pair for one in known))
        teaching = set(images[0::2])
        taught, held = ([one for one in known if (one.pair in teaching) is half] for half in (True, False))
        predictor = DicePredictor.fit(taught)
        offsets = {
            label: float(sum(errors)) / (len(errors) + _SHRINKAGE)
            for label, errors in _errors(taught, predictor, {}).items()
        }
        errors = {label: np.abs(each) for label, each in _errors(held, predictor, offsets).items()}
        together = conformal_quantile(np.concatenate(list(errors.values())), coverage) if errors else math.inf
        margins = {}
        for label, each in errors.items():
            own = conformal_quantile(each, coverage)
            # a label that too few of the images show has no quantile of its own
            margins[label] = min(own if math.isfinite(own) else together, 1.0)
        return cls(predictor, offsets, margins)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave."""
        offsets, margins = (
            {str(label): float(value) for label, value in content[name].items()} for name in ("offsets", "margins")
        )
        return cls(DicePredictor.from_dict(content["predictor"]), offsets, margins)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: the line, and the offset and the margin of each label."""
        return {"predictor": self.predictor.as_dict(), "offsets": dict(self.offsets), "margins": dict(self.margins)}

    def estimate(self, label: str, evidence: LabelEvidence) -> DiceEstimate:
        """The Dice of one label in one image."""
        dice = min(1.0, max(0.0, self.predictor.predict(evidence) + self.offsets.get(label, 0.0)))
        margin = self.margins.get(label, max(self.margins.values(), default=1.0))
        return DiceEstimate(dice, max(0.0, dice - margin), min(1.0, dice + margin))


def _errors(
    known: Sequence[KnownLabel], predictor: DicePredictor, offsets: Mapping[str, float]
) -> dict[str, list[float]]:
    """Label -> by how much its Dice exceeds the prediction, image by image."""
    errors: dict[str, list[float]] = {}
    for one in known:
        expected = predictor.predict(one.evidence) + offsets.get(one.label, 0.0)
        errors.setdefault(one.label, []).append(one.dice - expected)
    return errors


def conformal_quantile(errors: Sequence[float] | NDArray[np.float64], coverage: float) -> float:
    r"""The :math:`\lceil (n + 1) \, \mathtt{coverage} \rceil`-th smallest error; infinite where there are too few.

    A further error from the same source then exceeds it with a probability of at most ``1 - coverage``.

    Example:
        >>> conformal_quantile([0.1, 0.4, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9], 0.8)
        0.8
    """
    rank = math.ceil((len(errors) + 1) * coverage - 1e-9)
    return math.inf if rank > len(errors) else float(np.sort(errors)[rank - 1])
