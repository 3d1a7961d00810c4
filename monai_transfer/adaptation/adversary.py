"""A discriminator and what it costs to be told apart by it; the methods whose discriminator sees maps."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_transfer.adaptation.method import SOURCE, TARGET, AdaptationMethod, Batch, Outputs, of_sources, of_target
from monai_transfer.losses import DomainLossKind, domain_loss
from monai_transfer.networks import GradientReversal, PatchDomainDiscriminator


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


class AdversarialMaps(AdaptationMethod):
    """What is common to methods whose discriminator sees, patch by patch, a map of the size of the image.

    Args:
        spatial_dims: 2 or 3.
        classes: number of classes, background included.
        weight: weight of the reversed gradient at full strength.
        channels: width of the discriminator's first layer.
        layers: number of the discriminator's layers of stride 2.
        spectral_norm: whether the discriminator is spectrally normalised.
        loss: ``"bce"`` or ``"least_squares"``.
    """

    name: str
    """What the loss is called."""

    def __init__(
        self,
        spatial_dims: int,
        classes: int,
        weight: float = 0.01,
        *,
        channels: int = 16,
        layers: int = 3,
        spectral_norm: bool = False,
        loss: DomainLossKind = "bce",
    ) -> None:
        super().__init__(weight)
        discriminator = PatchDomainDiscriminator(
            spatial_dims, classes, channels=channels, layers=layers, spectral_norm=spectral_norm
        )
        self.adversary = Adversary(discriminator, loss)

    @abstractmethod
    def maps(self, logits: Tensor) -> Tensor:
        """What the discriminator sees of logits ``(batch, classes, *spatial)``, of the same shape."""

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The domain loss of the maps."""
        # as in both papers only the target's maps are pushed
        sources = [self.maps(out.logits.detach().float()) for out in of_sources(outputs)]
        targets = [self.maps(out.logits.float()) for out in of_target(outputs)]
        return {self.name: self.adversary(sources, targets, self.weight * self.strength)}
