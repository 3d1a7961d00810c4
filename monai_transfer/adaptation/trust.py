"""Which of a teacher's predictions are trusted."""

import torch
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.processes import gather_over_processes

_SAMPLES = 100_000
"""Voxels, at even distances, that the quantiles are taken of."""


class ClassBalancedTrust(nn.Module):
    r"""Trusts the most confident share of the voxels of every class, so that small classes are not crowded out.

    With :math:`q_v = \max_k p_{vk}` the confidence and :math:`c` the predicted class of voxel :math:`v`, the voxel
    is trusted where :math:`q_v \ge \max(\mathtt{floor}, \min(\tau_c, \mathtt{confidence}))`, and :math:`\tau_c` is the
    running mean of the quantile above which the share ``keep`` of class :math:`c` lies. Zou et al., *Unsupervised
    Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training*, ECCV 2018.

    Args:
        classes: number of classes, background included.
        keep: share of each class's voxels that is trusted at strength 0 and at strength 1.
        confidence: probability from which a voxel is trusted whatever its rank.
        floor: least probability of a trusted voxel.
        momentum: momentum of the running mean.
    """

    def __init__(
        self,
        classes: int,
        *,
        keep: tuple[float, float] = (0.3, 0.8),
        confidence: float = 0.95,
        floor: float = 0.0,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if not all(0 < share <= 1 for share in keep):
            raise UserError(f"keep holds two shares in (0, 1], not {keep}")
        self.keep = keep
        self.confidence = confidence
        self.floor = floor
        self.momentum = momentum
        self.thresholds: Tensor
        self.register_buffer("thresholds", torch.full((classes,), float("nan")))

    @torch.no_grad()
    def forward(self, probabilities: Tensor, strength: float = 1.0) -> Tensor:
        """Update the thresholds and say which voxels are trusted.

        Args:
            probabilities: ``(batch, classes, *spatial)``.
            strength: place in the curriculum, in ``[0, 1]``.

        Returns:
            Boolean ``(batch, 1, *spatial)``.
        """
        confidence, label = probabilities.max(1, keepdim=True)
        keep = self.keep[0] + (self.keep[1] - self.keep[0]) * strength
        # rounded up, so that there are never more than the samples
        step = -(-label.numel() // _SAMPLES)
        values = gather_over_processes(confidence.flatten()[::step])
        classes = gather_over_processes(label.flatten()[::step])
        for number in range(len(self.thresholds)):
            found = values[classes == number]
            if found.numel():
                self._update(number, torch.quantile(found.float(), 1 - keep))
        threshold = self.thresholds.clamp(max=self.confidence).clamp(min=self.floor)
        return confidence >= threshold[label]

    def _update(self, number: int, quantile: Tensor) -> None:
        old = self.thresholds[number]
        self.thresholds[number] = quantile if bool(old.isnan()) else torch.lerp(quantile, old, self.momentum)
