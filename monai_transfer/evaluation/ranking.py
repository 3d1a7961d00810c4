r"""How well scores tell two groups apart: ROC and precision-recall curves and the areas under them, with weights.

Every function takes the weights of examinations as ``(..., n)`` and works on all leading axes at once, so that a
bootstrap of a thousand resamples, each of which is a set of weights, costs one sort and a few cumulative sums.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def roc_auc(scores: Floats, truth: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    r"""Area under the ROC curve: the probability that a positive scores above a negative, ties counting half.

    .. math:: A = \frac{\sum_{i \in P} \sum_{j \in N} w_i w_j \left([s_i > s_j] + \tfrac12 [s_i = s_j]\right)}
        {\sum_{i \in P} w_i \sum_{j \in N} w_j}

    Hanley and McNeil, Radiology 1982.

    Args:
        scores: ``(n,)``, larger for the positive.
        truth: ``(n,)``, whether positive.
        weights: ``(..., n)``; all 1 by default.

    Returns:
        ``(...)``; NaN where one of the groups is empty.

    Example:
        >>> float(roc_auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])))
        0.875
    """
    positive, negative = _at_ties(scores, truth, weights)
    # of the thresholds in rising order: all negatives below, and half of those beside
    below = np.cumsum(negative, axis=-1) - negative / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (positive * below).sum(-1) / (positive.sum(-1) * negative.sum(-1))
    return np.asarray(area, np.float64)


def average_precision(scores: Floats, truth: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    r"""Average precision, :math:`\sum_k (R_k - R_{k-1}) P_k` over the thresholds from high to low.

    Args:
        scores: ``(n,)``, larger for the positive.
        truth: ``(n,)``, whether positive.
        weights: ``(..., n)``; all 1 by default.

    Returns:
        ``(...)``; NaN where there is no positive.

    Example:
        >>> round(float(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))), 4)
        0.8333
    """
    positive, negative = (part[..., ::-1] for part in _at_ties(scores, truth, weights))
    # from the highest score down: what is counted as positive at each threshold
    hits, misses = np.cumsum(positive, axis=-1), np.cumsum(negative, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(hits > 0, hits / (hits + misses), 0.0)
        area = (positive * precision).sum(-1) / positive.sum(-1)
    return np.asarray(area, np.float64)


def roc_curve(scores: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """False-positive rate, true-positive rate and threshold, from the strictest threshold (infinite) on.

    Raises:
        ValueError: one of the groups is empty.
    """
    if truth.all() or not truth.any():
        raise ValueError("an ROC curve needs positives and negatives")
    positive, negative = (part[::-1] for part in _at_ties(scores, truth, None))
    thresholds = np.concatenate([[np.inf], np.unique(scores)[::-1]])
    rates = [np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (negative, positive)]
    return rates[0], rates[1], thresholds


def precision_recall_curve(scores: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and threshold, from the strictest threshold on.

    Raises:
        ValueError: there is no positive.
    """
    if not truth.any():
        raise ValueError("a precision-recall curve needs positives")
    positive, negative = (part[::-1] for part in _at_ties(scores, truth, None))
    hits, misses = np.cumsum(positive), np.cumsum(negative)
    return hits / (hits + misses), hits / positive.sum(), np.unique(scores)[::-1]


def _at_ties(scores: Floats, truth: NDArray[np.bool_], weights: Floats | None) -> tuple[Floats, Floats]:
    """Weight of the positives and of the negatives at each distinct score, rising, each ``(..., distinct)``."""
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(scores, kind="stable")
    # cases of equal score cross a threshold together, whatever their order in the list
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) > 0])) if len(scores) else np.array([0])
    sums = [np.add.reduceat(weights[..., order] * side[order], starts, axis=-1) for side in (truth, ~truth)]
    return sums[0], sums[1]
