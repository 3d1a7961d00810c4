"""Maximum mean discrepancy with several kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mmd_loss(
    source: Tensor,
    target: Tensor,
    *,
    factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    bandwidth: float | None = None,
) -> Tensor:
    r"""Squared distance of the means of two sets of vectors in a kernel space.

    .. math:: L = \overline{k(S, S)} + \overline{k(T, T)} - 2\, \overline{k(S, T)}, \qquad
       k(x, y) = \frac{1}{|F|} \sum_{f \in F} \exp\left(-\frac{\lVert x - y \rVert^2}{f b}\right)

    with means over all pairs (the V-statistic, never negative). The bandwidth :math:`b` is the mean squared distance
    of all pairs of distinct vectors, held constant in the gradient, unless it is given. Gretton et al., JMLR 2012;
    Long et al., *Learning Transferable Features with Deep Adaptation Networks*, ICML 2015.

    Args:
        source: ``(n, d)``.
        target: ``(m, d)``.
        factors: multiples of the bandwidth, one kernel each.
        bandwidth: a fixed :math:`b`, in squared units of the features.

    Returns:
        A scalar, at least 0 up to rounding.

    Example:
        >>> vectors = torch.eye(4)
        >>> float(mmd_loss(vectors, vectors)), round(float(mmd_loss(vectors, vectors + 3)), 2)
        (0.0, 1.29)
    """
    with torch.autocast(source.device.type, enabled=False):
        both = torch.cat([source, target])
        # |x - y|² = |x|² + |y|² - 2xy needs no (n, m, d) tensor; rounding may leave it below zero
        norms = both.square().sum(1)
        distances = (norms[:, None] + norms[None] - 2 * both @ both.T).clamp_min(0)
        if bandwidth is None:
            # without the detach the loss could fall by scaling all features instead of moving them
            scale = distances.detach().sum() / max(1, len(both) * (len(both) - 1))
        else:
            scale = distances.new_tensor(bandwidth)
        # equal vectors, as of a network that has collapsed, have no scale to divide by
        scale = scale.clamp_min(1e-12)
        kernel = torch.stack([torch.exp(-distances / (factor * scale)) for factor in factors]).mean(0)
        n = len(source)
        return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
