"""How far the predicted sizes of the classes are from the sizes to expect."""

from torch import Tensor


def size_divergence(predicted: Tensor, expected: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    r"""Divergence of each class's predicted share from the expected one, in units of that share.

    .. math:: d_k = \frac{\hat p_k}{\tau_k} - 1 - \log \frac{\hat p_k}{\tau_k}

    Weighted by the shares they sum to the Kullback-Leibler divergence that Bateson et al., *Source-free domain
    adaptation for image segmentation*, MedIA 2022, minimise, :math:`\sum_k \tau_k d_k = \mathrm{KL}(\tau \Vert \hat
    p)`, in which a small organ is next to nothing; here it counts as much as a large one. Half the expected size costs
    0.19, twice 0.31.

    Args:
        predicted: ``(classes,)``: the mean softmax.
        expected: ``(classes,)``, above 0.
        epsilon: added to both before the ratio.

    Returns:
        ``(classes,)``, at least 0.

    Example:
        >>> import torch
        >>> size_divergence(torch.tensor([0.05, 0.1, 0.2]), torch.full((3,), 0.1)).round(decimals=2)
        tensor([0.1900, 0.0000, 0.3100])
    """
    ratio = (predicted + epsilon) / (expected + epsilon)
    return ratio - 1 - ratio.log()
