"""A discriminator and what it costs to be told apart by it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_transfer.adaptation.method import SOURCE, TARGET
from monai_transfer.losses import DomainLossKind, domain_loss
from monai_transfer.networks import GradientReversal


class Adversary(nn.Module):
    """A discriminator behind gradient reversal.

    The discriminator always learns at full weight; ``strength`` scales only the reversed gradient that reaches
    what comes before. So strength 0 trains the discriminator alone (its warm-up), and the loss can be read as
    confusion whatever the weight: log 2 for BCE when the domains cannot be told apart.
    """

    def __init__(self, discriminator: nn.Module, kind: DomainLossKind) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.reversal = GradientReversal()
        self.kind: DomainLossKind = kind

    def forward(self, sources: Sequence[Tensor], targets: Sequence[Tensor], strength: float) -> Tensor:
        """Mean domain loss, both sides counting the same.

        Args:
            sources: what the discriminator sees of each source, ``(batch, channels, *spatial)``.
            targets: the same of each target domain.
            strength: factor of the reversed gradient.

        Returns:
            A scalar.
        """
        self.reversal.strength = strength
        return 0.5 * (self._side(sources, SOURCE) + self._side(targets, TARGET))

    def _side(self, inputs: Sequence[Tensor], domain: int) -> Tensor:
        scores = (self.discriminator(self.reversal(x)) for x in inputs)
        return torch.stack([domain_loss(score, domain, kind=self.kind) for score in scores]).mean()
