"""Domain-adversarial training of encoder features."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_transfer.adaptation.adversary import Adversary
from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, of_sources, of_target
from monai_transfer.errors import UserError
from monai_transfer.losses import DomainLossKind
from monai_transfer.networks import PooledDiscriminator


class DANN(AdaptationMethod):
    r"""The encoder learns features from which a discriminator cannot tell the domain.

    .. math:: \min_\theta \min_\phi \; L_\mathrm{seg} + \sum_l L_\mathrm{dom}(D_{\phi_l}(R_\lambda(f_l)))

    with :math:`f_l` the pooled features of level :math:`l` and :math:`R_\lambda` gradient reversal with
    :math:`\lambda` = ``weight * strength``. Ganin et al., *Domain-Adversarial Training of Neural Networks*, JMLR 2016.

    Args:
        in_channels: channels of the coarsest level, or of the coarsest levels from fine to coarse, one
            discriminator each.
        weight: weight of the reversed gradient at full strength.
        hidden: width of each discriminator's hidden layers.
        dropout: share of hidden units dropped in the discriminators.
        spectral_norm: whether the discriminators are spectrally normalised.
        loss: ``"bce"`` or ``"least_squares"``.

    Example:
        >>> one_domain = Outputs(torch.zeros(1, 3, 16, 16), (torch.zeros(1, 8, 4, 4),))
        >>> outputs = {"source": one_domain, "target": one_domain}
        >>> method = DANN(in_channels=8)
        >>> method.set_strength(0.0)  # the discriminator learns, the network does not
        >>> {name: loss.requires_grad for name, loss in method.losses(outputs, {}).items()}
        {'domain': True}
    """

    needs_features = True

    def __init__(
        self,
        in_channels: int | Sequence[int],
        weight: float = 0.1,
        *,
        hidden: Sequence[int] = (128, 128),
        dropout: float = 0.0,
        spectral_norm: bool = False,
        loss: DomainLossKind = "bce",
    ) -> None:
        super().__init__(weight)
        self.in_channels = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
        self.adversaries = nn.ModuleList(
            Adversary(PooledDiscriminator(n, hidden, dropout=dropout, spectral_norm=spectral_norm), loss)
            for n in self.in_channels
        )

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The domain loss, averaged over levels."""
        sources = [self._levels(out) for out in of_sources(outputs)]
        targets = [self._levels(out) for out in of_target(outputs)]
        strength = self.weight * self.strength
        per_level = [
            adversary([s[i] for s in sources], [t[i] for t in targets], strength)
            for i, adversary in enumerate(self.adversaries)
        ]
        return {"domain": torch.stack(per_level).mean()}

    def _levels(self, out: Outputs) -> tuple[Tensor, ...]:
        levels = out.features[-len(self.in_channels) :]
        channels = tuple(level.shape[1] for level in levels)
        if channels != self.in_channels:
            raise UserError(
                f"DANN was given in_channels {list(self.in_channels)}, but the coarsest tapped features have "
                f"{list(channels)}: set in_channels to these"
            )
        return levels
