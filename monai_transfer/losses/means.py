"""Means over the whole batch, also where several processes have a part of it each."""

import torch.nn.functional as F
from torch import Tensor

from monai_transfer.processes import sum_over_processes, world_size

IGNORED = -100
"""Class number of a voxel that cross entropy passes over."""


def weighted_mean(values: Tensor, weights: Tensor, *, least: float = 0.0) -> Tensor:
    r"""The mean :math:`\sum w x / \sum w` of values with weights of a shape that fits.

    Args:
        values: any shape.
        weights: at least 0.
        least: least sum of weights, above 0 where all may be 0.

    Example:
        >>> import torch
        >>> float(weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])))
        2.0
    """
    total = sum_over_processes(weights.sum())
    return sum_over_processes((values * weights).sum()) / (total.clamp_min(least) if least else total)


def cross_entropy(log_p: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross entropy of log probabilities, weighted by class as torch does it.

    Args:
        log_p: ``(batch, classes, *spatial)``.
        labels: class numbers ``(batch, *spatial)``; :data:`IGNORED` ones do not count.
        weight: ``(classes,)``, 1 by default.

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]]).log()
        >>> round(float(cross_entropy(log_p, torch.tensor([[0, 1]])).exp()), 3)  # the root of 1 / 0.25 · 1 / 0.5
        2.828
    """
    if world_size() == 1:
        return F.nll_loss(log_p, labels, weight=weight, ignore_index=IGNORED)
    known = labels != IGNORED
    weights = known.to(log_p.dtype) if weight is None else weight[labels * known] * known
    losses = F.nll_loss(log_p, labels, ignore_index=IGNORED, reduction="none")
    return weighted_mean(losses, weights)
