"""Adversarial alignment of entropy maps."""

from collections.abc import Mapping

from torch import Tensor

from monai_transfer.adaptation.adversary import Adversary
from monai_transfer.adaptation.domains import of_sources, of_target
from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs
from monai_transfer.losses import DomainLossKind, self_information
from monai_transfer.networks import PatchDomainDiscriminator


class AdvEnt(AdaptationMethod):
    """The target's maps of weighted self-information learn to look like the source's.

    A network is certain on the source inside of organs and doubtful along their borders only; on the target it is
    doubtful everywhere. As in the paper only the target's maps are pushed. Vu et al., *ADVENT: Adversarial Entropy
    Minimization for Domain Adaptation in Semantic Segmentation*, CVPR 2019; here with gradient reversal.

    Args:
        spatial_dims: 2 or 3.
        classes: number of classes, background included.
        weight: weight of the reversed gradient at full strength.
        channels: width of the discriminator's first layer.
        layers: number of the discriminator's layers of stride 2.
        spectral_norm: whether the discriminator is spectrally normalised.
        loss: ``"bce"`` or ``"least_squares"``.

    Example:
        >>> import torch
        >>> outputs = {domain: Outputs(torch.zeros(1, 3, 16, 16)) for domain in ("source", "target")}
        >>> loss = AdvEnt(spatial_dims=2, classes=3).losses(outputs, {})["entropy_domain"]
        >>> loss.shape, bool(loss > 0)
        (torch.Size([]), True)
    """

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

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The domain loss of the self-information maps."""
        sources = [self_information(out.logits.detach().float()) for out in of_sources(outputs)]
        targets = [self_information(out.logits.float()) for out in of_target(outputs)]
        return {"entropy_domain": self.adversary(sources, targets, self.weight * self.strength)}
