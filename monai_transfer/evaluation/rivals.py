"""Whether an image is nearer to what it should not be than to what is usual: mirrored, or of another kind of images.

People differ, and two distances of one image differ less than the distances of two people: by how much one distance
exceeds the other is therefore told from fewer images than the distance itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

OTHER_WAY = 1 / 3
"""An image is told that lies a third as far the other way as the seen ones lie this way: 0 is the middle between both,
and of images that come most are right."""

_LEAST_DEVIATION = 0.25
"""Least deviation of a lag that counts, in factors of two: four images may agree by chance."""

_LEAST_DISTANCE = 0.05
"""A distance that is nearer to 0 says no more, and its logarithm would say too much."""


def lag(distance: float, rival: float) -> float:
    """By how many factors of two an image is farther from what is usual than from the rival.

    Example:
        >>> lag(2.0, 0.5), lag(1.0, 1.0)
        (2.0, 0.0)
    """
    return math.log2(max(distance, _LEAST_DISTANCE) / max(rival, _LEAST_DISTANCE))


@dataclass(frozen=True)
class Rival:
    r"""Weighs the lags :math:`r_k` of an image in all that is described, :math:`\sum_k w_k r_k / u`.

    The images that were seen are one class; the other, of which there may be none, is taken to lie as far on the other
    side of 0. Diagonal linear discriminant analysis (Dudoit, Fridlyand and Speed, JASA 2002) then weighs each lag with
    :math:`w_k \propto \max(0, -m_k) / s_k^2`, from its mean and deviation over the seen images.

    Attributes:
        weights: what is described -> :math:`w_k`, which sum to 1; other lags are not used.
        usual: :math:`u`, the median over the seen images with its sign changed, so that theirs is -1.
        limit: what no image that was seen exceeded when it was left out, at least :data:`OTHER_WAY`.

    Example:
        >>> rival = Rival.learn([{"layout": -1.0}, {"layout": -1.2}, {"layout": -0.8}, {"layout": -1.0}])
        >>> rival.nearer({"layout": -1.0}) > 1, rival.nearer({"layout": 0.9}) > 1
        (False, True)
    """

    weights: Mapping[str, float]
    usual: float
    limit: float

    @classmethod
    def learn(cls, seen: Sequence[Mapping[str, float]]) -> Self | None:
        """From the lags of images that were seen, each against the others.

        Returns:
            ``None`` where their lags tell nothing, as those of brains, whose left is like their right.
        """
        rows = np.array([list(one.values()) for one in seen])
        weights, usual = _weighed(rows)
        others = [_weighed(np.delete(rows, number, 0)) for number in range(len(rows))]
        if min(usual, *(other for _, other in others)) <= 0:
            return None
        left_out = [float(row @ weighed) / other for row, (weighed, other) in zip(rows, others, strict=True)]
        return cls(dict(zip(seen[0], weights.tolist(), strict=True)), usual, max(OTHER_WAY, *left_out))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave."""
        weights = {str(what): float(weight) for what, weight in content["weights"].items()}
        return cls(weights, float(content["usual"]), float(content["limit"]))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def nearer(self, lags: Mapping[str, float]) -> float:
        """How near an image is to the rival, in limits: above 1 it is to be told."""
        return sum(weight * lags[what] for what, weight in self.weights.items()) / self.usual / self.limit


def _weighed(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Weight of each column, and the usual sum with its sign changed; 0 where nothing has a weight."""
    weights = np.maximum(-rows.mean(0), 0.0) / (rows.var(0, ddof=1) + _LEAST_DEVIATION**2)
    weights = weights / max(float(weights.sum()), 1e-9)
    return weights, -float(np.median(rows @ weights))
