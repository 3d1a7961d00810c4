"""Alignment of the features' covariances."""

from collections.abc import Mapping

import torch
from torch import Tensor

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, of_sources, of_target
from monai_transfer.losses import coral_loss, voxel_samples


class DeepCORAL(AdaptationMethod):
    """Source and target features get the same covariance (see :func:`monai_transfer.losses.coral_loss`).

    Every voxel of the coarsest tapped features is one vector. Sun and Saenko, ECCV workshops 2016.

    Args:
        weight: weight at full strength.
        samples: greatest number of vectors per domain, taken at even distances.

    Example:
        >>> features = torch.rand(1, 4, 6, 6)
        >>> outputs = {
        ...     "source": Outputs(torch.zeros(1, 3, 12, 12), (features,)),
        ...     "target": Outputs(torch.zeros(1, 3, 12, 12), (features + 2,)),
        ... }
        >>> round(float(DeepCORAL().losses(outputs, {})["coral"]), 4)  # covariances do not see a shift
        0.0
    """

    needs_features = True
    rests_at_zero = True

    def __init__(self, weight: float = 1.0, *, samples: int = 4000) -> None:
        super().__init__(weight)
        self.samples = samples

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The CORAL loss, averaged over pairs of a source and a target."""
        sources = [voxel_samples(out.features[-1], self.samples) for out in of_sources(outputs)]
        targets = [voxel_samples(out.features[-1], self.samples) for out in of_target(outputs)]
        pairs = torch.stack([coral_loss(s, t) for s in sources for t in targets])
        return {"coral": self.scaled(pairs.mean())}
