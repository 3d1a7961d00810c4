"""Conditional adversarial alignment: features together with what was predicted from them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_transfer.adaptation.adversary import Adversary
from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, of_sources, of_target
from monai_transfer.errors import UserError
from monai_transfer.losses import DomainLossKind
from monai_transfer.networks import PooledDiscriminator

_POOL: dict[int, Callable[[Tensor, Any], Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


class CDAN(AdaptationMethod):
    r"""The discriminator sees features class by class, so that livers are aligned with livers.

    Per image, with :math:`f_v` the feature and :math:`p_v` the (detached) class probabilities of voxel :math:`v` of the
    feature grid, the discriminator sees the multilinear map

    .. math:: h = \frac{\sum_v w_v \, f_v \otimes p_v}{\sum_v w_v}, \qquad w_v = 1 + e^{-H(p_v)}

    (:math:`w = 1` without entropy weighting), behind gradient reversal of ``weight * strength``. Where
    ``in_channels * classes`` exceeds ``max_width`` the map is randomised,
    :math:`(R_f f_v) \odot (R_p p_v) / \sqrt{d}`. Long et al., *Conditional Adversarial Domain Adaptation*, NeurIPS
    2018; there for one prediction per image, here for one per voxel.

    Args:
        in_channels: channels of the coarsest tapped features.
        classes: number of classes, background included.
        weight: weight of the reversed gradient at full strength.
        entropy_weighting: whether certain voxels count more (CDAN+E).
        max_width: greatest width of the discriminator's input.
        hidden: width of each hidden layer of the discriminator.
        spectral_norm: whether the discriminator is spectrally normalised.
        loss: ``"bce"`` or ``"least_squares"``.

    Example:
        >>> one_domain = Outputs(torch.zeros(1, 3, 16, 16), (torch.zeros(1, 8, 4, 4),))
        >>> outputs = {"source": one_domain, "target": one_domain}
        >>> method = CDAN(in_channels=8, classes=3)
        >>> {name: tuple(loss.shape) for name, loss in method.losses(outputs, {}).items()}
        {'conditional_domain': ()}
    """

    needs_features = True

    def __init__(
        self,
        in_channels: int,
        classes: int,
        weight: float = 0.1,
        *,
        entropy_weighting: bool = True,
        max_width: int = 2048,
        hidden: Sequence[int] = (128, 128),
        spectral_norm: bool = False,
        loss: DomainLossKind = "bce",
    ) -> None:
        super().__init__(weight)
        self.in_channels = in_channels
        self.entropy_weighting = entropy_weighting
        self.project_features: Tensor | None
        self.project_classes: Tensor | None
        randomised = in_channels * classes > max_width
        self.register_buffer("project_features", torch.randn(in_channels, max_width) if randomised else None)
        self.register_buffer("project_classes", torch.randn(classes, max_width) if randomised else None)
        width = max_width if randomised else in_channels * classes
        self.adversary = Adversary(PooledDiscriminator(width, hidden, spectral_norm=spectral_norm), loss)

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The domain loss of the multilinear maps."""
        sources = [self._multilinear(out) for out in of_sources(outputs)]
        targets = [self._multilinear(out) for out in of_target(outputs)]
        return {"conditional_domain": self.adversary(sources, targets, self.weight * self.strength)}

    def _multilinear(self, out: Outputs) -> Tensor:
        if not out.features or out.features[-1].shape[1] != self.in_channels:
            found = out.features[-1].shape[1] if out.features else "no"
            raise UserError(
                f"CDAN was given in_channels {self.in_channels}, but the coarsest tapped features have {found} "
                "channels: set in_channels to this"
            )
        # as for every discriminator: domain logits and what they are made of stay in float32
        with torch.autocast(out.logits.device.type, enabled=False):
            features = out.features[-1].float()
            pool, grid = _POOL[features.ndim - 2], features.shape[2:]
            probabilities = out.logits.detach().float().softmax(1)
            if probabilities.ndim == 2:  # one answer for the whole image holds everywhere in it
                p = probabilities[:, :, None].expand(-1, -1, grid.numel())
            else:
                p = pool(probabilities, grid).flatten(2)
            weights = torch.ones_like(p[:, :1])
            if self.entropy_weighting:
                weights = 1 + torch.exp(-torch.special.entr(p).sum(1, keepdim=True))
            weights = weights / weights.sum(2, keepdim=True)
            f = features.flatten(2)
            if self.project_features is None or self.project_classes is None:
                return torch.einsum("bcv,bkv->bck", f * weights, p).flatten(1)
            wide_f = torch.einsum("bcv,cd->bdv", f * weights, self.project_features)
            wide_p = torch.einsum("bkv,kd->bdv", p, self.project_classes)
            out_map: Tensor = (wide_f * wide_p).sum(2) / wide_f.shape[1] ** 0.5
            return out_map
