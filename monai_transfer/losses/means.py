"""Means over the whole batch, also where several processes have a part of it each."""

from torch import Tensor

from monai_transfer.processes import sum_over_processes


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
