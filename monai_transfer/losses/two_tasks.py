"""One loss of two tasks, of which a case may know only one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TwoTaskLoss(nn.Module):
    r"""The losses of a segmentation and a diagnosis, weighted by fixed numbers or by how uncertain each task is.

    .. math:: L = \sum_k w_k L_k \qquad\text{or}\qquad L = \sum_k e^{-s_k} L_k + \tfrac{1}{2} s_k

    with :math:`s_k = \log \sigma_k^2` learnt beside the network. Only the tasks that a batch says something about
    count, and in each only the cases that do.

    Kendall et al., "Multi-task learning using uncertainty to weigh losses for scene geometry and semantics", CVPR 2018.

    Args:
        segmentation: loss of logits ``(batch, labels, *spatial)`` and label maps ``(batch, 1, *spatial)``.
        diagnosis: loss of logits ``(batch, classes)`` and targets ``(batch, classes)``, which may hold NaN.
        labels: number of labels with the background; the further channels are the classes.
        weights: of segmentation and diagnosis; learnt where None.

    Example:
        >>> from monai_transfer.losses import DiagnosisLoss
        >>> loss = TwoTaskLoss(nn.CrossEntropyLoss(), DiagnosisLoss(exclusive=True), labels=2, weights=[1.0, 0.5])
        >>> target = torch.full((1, 3, 2, 2), -1.0)  # no label map
        >>> target[:, 1:] = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)  # the second class
        >>> round(float(loss(torch.zeros(1, 4, 2, 2), target)), 4)  # half of log 2
        0.3466
    """

    def __init__(
        self, segmentation: nn.Module, diagnosis: nn.Module, *, labels: int, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.diagnosis = diagnosis
        self.labels = labels
        self.weights = None if weights is None else tuple(weights)
        self.log_variances = nn.Parameter(torch.zeros(2), requires_grad=weights is None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: of :class:`~monai_transfer.networks.TwoHeads`, ``(batch, labels + classes, *spatial)``.
            target: ``(batch, 1 + classes, *spatial)``: a label map, or -1 where there is none, and the class targets at
                every place, NaN where they are unknown.
        """
        maps, targets = target[:, :1], target[:, 1:].flatten(2)[..., 0]
        mapped = maps.flatten(1).amin(1) >= 0
        known = ~targets.isnan().all(1)
        # a sum of no cases, so that a batch that says nothing has a gradient of zero
        total = logits.sum() * 0.0
        if bool(mapped.any()):
            total = total + self._weighted(0, self.segmentation(logits[mapped, : self.labels], maps[mapped]))
        if bool(known.any()):
            classes = logits[known, self.labels :].flatten(2)[..., 0]
            total = total + self._weighted(1, self.diagnosis(classes, targets[known]))
        return total

    def _weighted(self, task: int, loss: Tensor) -> Tensor:
        if self.weights is not None:
            return self.weights[task] * loss
        log_variance = self.log_variances[task].to(loss.device)
        return torch.exp(-log_variance) * loss + 0.5 * log_variance
