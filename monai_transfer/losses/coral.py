"""Distance of second-order statistics (CORAL)."""

import torch
from torch import Tensor


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    r"""Squared distance of the covariances of two sets of vectors.

    .. math:: L = \frac{1}{4 d^2} \lVert C_S - C_T \rVert_F^2, \qquad
       C = \frac{1}{n - 1} \sum_i (x_i - \bar x)(x_i - \bar x)^\top

    Sun and Saenko, *Deep CORAL: Correlation Alignment for Deep Domain Adaptation*, ECCV workshops 2016.

    Args:
        source: ``(n, d)``, at least two vectors.
        target: ``(m, d)``, at least two vectors.

    Returns:
        A scalar.

    Raises:
        ValueError: a set has fewer than two vectors, or the dimensions differ.

    Example:
        >>> vectors = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> [round(float(coral_loss(vectors, other)), 2) for other in (vectors + 5, 2 * vectors)]
        [0.0, 2.5]
    """
    if source.shape[1] != target.shape[1] or min(len(source), len(target)) < 2:
        raise ValueError(
            f"CORAL needs two sets of at least two vectors of one dimension, not {source.shape}, {target.shape}"
        )
    # covariances of half-precision features lose the small differences that are the loss
    with torch.autocast(source.device.type, enabled=False):
        difference = _covariance(source) - _covariance(target)
        return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(0)
    return centred.T @ centred / (len(vectors) - 1)
