"""How far the predicted sizes of the classes are from the sizes to expect."""

from torch import Tensor


def proportion_divergence(predicted: Tensor, expected: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    r"""Kullback-Leibler divergence of predicted class proportions from the expected ones.

    .. math:: \mathrm{KL}(\tau \,\Vert\, \hat p) = \sum_k \tau_k \log \frac{\tau_k}{\hat p_k}

    Bateson et al., *Source-free domain adaptation for image segmentation*, MedIA 2022.

    Args:
        predicted: ``(classes,)``, summing to 1: the mean softmax.
        expected: ``(classes,)``, summing to 1.
        epsilon: added to both before the ratio.

    Returns:
        A scalar, at least 0 up to ``epsilon``.
    """
    tau, p = expected + epsilon, predicted + epsilon
    return (tau * (tau.log() - p.log())).sum()
