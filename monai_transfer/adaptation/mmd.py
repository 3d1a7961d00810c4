"""Alignment of the features' distributions by maximum mean discrepancy."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, of_sources, of_target
from monai_transfer.losses import mmd_loss, voxel_samples


class MMD(AdaptationMethod):
    """Source and target features get the same distribution, seen by several kernels.

    Every voxel of the coarsest tapped features is one vector; see :func:`monai_transfer.losses.mmd_loss`. Long et al.,
    *Learning Transferable Features with Deep Adaptation Networks*, ICML 2015.

    Args:
        weight: weight at full strength.
        samples: greatest number of vectors per domain, taken at even distances; cost grows with its square.
        factors: multiples of the mean squared distance that serve as bandwidths.

    Example:
        >>> features = torch.rand(1, 4, 6, 6)
        >>> outputs = {
        ...     "source": Outputs(torch.zeros(1, 3, 12, 12), (features,)),
        ...     "target": Outputs(torch.zeros(1, 3, 12, 12), (features + 2,)),
        ... }
        >>> bool(MMD().losses(outputs, {})["mmd"] > 0.5)
        True
    """

    needs_features = True
    rests_at_zero = True

    def __init__(
        self, weight: float = 1.0, *, samples: int = 500, factors: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)
    ) -> None:
        super().__init__(weight)
        self.samples = samples
        self.factors = tuple(factors)

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The discrepancy, averaged over pairs of a source and a target."""
        sources = [voxel_samples(out.features[-1], self.samples) for out in of_sources(outputs)]
        targets = [voxel_samples(out.features[-1], self.samples) for out in of_target(outputs)]
        pairs = torch.stack([mmd_loss(s, t, factors=self.factors) for s in sources for t in targets])
        return {"mmd": self.scaled(pairs.mean())}
