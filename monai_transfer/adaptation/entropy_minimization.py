"""Certainty on the target."""

from collections.abc import Mapping

import torch
from torch import Tensor

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, of_target
from monai_transfer.losses import entropy_loss


class EntropyMinimization(AdaptationMethod):
    """Predictions on the target become certain (see :func:`monai_transfer.losses.entropy_loss`).

    On its own it may settle on one class everywhere; :class:`monai_transfer.adaptation.ForegroundPrior` works against
    that. Grandvalet and Bengio, NeurIPS 2004; the direct form (MinEnt) of Vu et al., CVPR 2019.

    Args:
        weight: weight at full strength.

    Example:
        >>> outputs = {"target": Outputs(torch.zeros(1, 3, 8, 8))}
        >>> EntropyMinimization(weight=0.1).losses(outputs, {})
        {'entropy': tensor(0.1000)}
    """

    usual_weight = 0.1
    rests_at_zero = True

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The mean entropy of the target's predictions."""
        per_domain = torch.stack([entropy_loss(out.logits.float()) for out in of_target(outputs)])
        return {"entropy": self.scaled(per_domain.mean())}
