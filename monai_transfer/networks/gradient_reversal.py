"""The layer that makes an adversary out of a classifier."""

from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        # a view: autograd treats an output that is its very input as a case of its own
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


class GradientReversal(nn.Module):
    r"""Identity forwards, :math:`-\lambda` times the gradient backwards.

    .. math:: R(x) = x, \qquad \frac{\partial R}{\partial x} = -\lambda I

    At strength 0 the input is detached, so that whatever comes before gets no gradient at all.
    Ganin et al., *Domain-Adversarial Training of Neural Networks*, JMLR 2016.

    Args:
        strength: :math:`\lambda`, at least 0; may be set later.

    Example:
        >>> features = torch.ones(3, requires_grad=True)
        >>> GradientReversal(0.5)(features).sum().backward()
        >>> features.grad
        tensor([-0.5000, -0.5000, -0.5000])
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, features: Tensor) -> Tensor:
        """Pass the features on, any shape."""
        if self.strength == 0:
            # not zero times the gradient: 0 · inf is NaN, and source-only must stay bitwise source-only
            return features.detach()
        out: Tensor = _Reverse.apply(features, self.strength)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """The strength."""
        return f"strength={self.strength}"
