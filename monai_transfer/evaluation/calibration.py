r"""From logits to probabilities that mean what they say, and to a decision.

Temperature scaling divides the logits by one number that is fitted on cases the network did not learn from. It moves
no case past another, so the area under the ROC curve stays; only the confidence changes.

Guo et al., "On calibration of modern neural networks", ICML 2017.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from monai_transfer.errors import UserError
from monai_transfer.evaluation.ranking import Floats, roc_curve
from monai_transfer.inference.probabilities import probabilities

BINS = 10
"""Bins of the reliability diagram and of the calibration error; fifteen, as some papers have, need more cases."""

_TEMPERATURES = (0.05, 20.0)
"""Beyond these a network says 0, 1 or nothing whatever it sees, and the validation cases are too few to believe it."""


def fit_temperature(logits: Floats, targets: Floats, *, exclusive: bool) -> float:
    """The temperature that makes the targets most likely.

    Args:
        logits: ``(n, classes)`` of cases that the network did not learn from.
        targets: ``(n, classes)`` in 0, 1 and NaN.
        exclusive: whether the classes exclude each other.

    Returns:
        A number from 0.05 to 20; 1 where a single kind of answer leaves nothing to fit.
    """
    known = ~np.isnan(targets)
    if not known.any() or all(
        np.ptp(targets[known[:, k], k]) == 0 for k in range(targets.shape[1]) if known[:, k].any()
    ):
        return 1.0

    def surprise(log_temperature: float) -> float:
        p = probabilities(logits, exclusive=exclusive, temperature=float(np.exp(log_temperature)))
        # a certain answer that is wrong costs much, but not infinitely much
        p = np.clip(p, 1e-12, 1 - 1e-12)
        terms = targets * np.log(p) if exclusive else targets * np.log(p) + (1 - targets) * np.log(1 - p)
        return -float(terms[known].mean())

    # in logarithms, because half and twice the temperature are as far from 1
    found = minimize_scalar(surprise, bounds=tuple(np.log(_TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def choose_threshold(scores: Floats, truth: NDArray[np.bool_], *, sensitivity: float | None = None) -> float:
    """The probability from which on a case counts as positive.

    By default that of the largest Youden index, sensitivity + specificity - 1; with ``sensitivity`` the highest one
    that finds at least this share of the positives. The middle between two scores is taken, so that it does not
    depend on the last digit of a case.

    Youden, Cancer 1950.

    Args:
        scores: probabilities, ``(n,)``.
        truth: whether positive, ``(n,)``.
        sensitivity: share of the positives to find.

    Raises:
        UserError: there are no positives or no negatives.

    Example:
        >>> choose_threshold(np.array([0.1, 0.3, 0.5, 0.9]), np.array([False, False, True, True]))
        0.4
    """
    if truth.all() or not truth.any():
        raise UserError("A threshold needs cases with and without the finding: add cases to the validation.")
    false, true, thresholds = roc_curve(scores, truth)
    if sensitivity is None:
        chosen = int(np.argmax(true - false))
    else:
        # the first, strictest threshold that finds enough; 9 of 10 is 0.9 for all its rounding
        chosen = int(np.argmax(true >= sensitivity - 1e-12))
    if chosen == 0:  # nothing is called positive
        return 1.0
    next_lower = thresholds[chosen + 1] if chosen + 1 < len(thresholds) else thresholds[chosen]
    return float((thresholds[chosen] + next_lower) / 2)


def expected_calibration_error(
    confidence: Floats, correct: Floats, weights: Floats | None = None, *, bins: int = BINS
) -> Floats:
    r"""Expected calibration error, :math:`\sum_b \frac{n_b}{n} |\text{accuracy}_b - \text{confidence}_b|`.

    Args:
        confidence: probability of what was said, ``(n,)``, in bins of equal width.
        correct: 1 where it was true, ``(n,)``.
        weights: ``(..., n)``; all 1 by default.
        bins: how many.

    Returns:
        ``(...)``.

    Example:
        >>> float(expected_calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1, 1, 1, 0])))
        0.0
    """
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
    place = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    member = np.eye(bins)[place]
    difference = weights * (np.asarray(correct, np.float64) - confidence)
    with np.errstate(invalid="ignore"):
        error = np.abs(difference @ member).sum(-1) / weights.sum(-1)
    return np.asarray(error, np.float64)


def reliability(confidence: Floats, correct: Floats, *, bins: int = BINS) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean confidence, share that was true, and cases of each bin that holds any."""
    place = np.clip(np.ceil(np.asarray(confidence) * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    held = counts > 0
    sums = [
        np.bincount(place, np.asarray(values, np.float64), minlength=bins)[held] for values in (confidence, correct)
    ]
    return sums[0] / counts[held], sums[1] / counts[held], counts[held]
