"""The supervised loss of a diagnosis: one class per examination, or findings that may be unknown."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_transfer.losses.means import weighted_mean


class DiagnosisLoss(nn.Module):
    r"""Cross entropy of a class, or binary cross entropy of findings, with focus and smoothing.

    With :math:`p` the probability of what is true and :math:`w` the weight of its class,

    .. math:: L = -\frac{\sum w\, (1 - p)^\gamma \log p}{\sum w}

    over the examinations, or over all findings that are known (a target of NaN is not). Smoothing moves a share
    :math:`\epsilon` of the truth evenly to all classes, of a finding to the other answer. A mixture of examinations
    shows each class with its share.

    Lin et al., "Focal loss for dense object detection", ICCV 2017; Szegedy et al., "Rethinking the Inception
    architecture for computer vision", CVPR 2016.

    Args:
        weights: of the classes, or of each finding where it is present; all alike where None.
        focal: :math:`\gamma`; at 0 every examination counts alike, at 2 those that are nearly right hardly count.
        smoothing: :math:`\epsilon`, from 0 to below 1.
        exclusive: whether targets of two axes are shares of classes that exclude each other, and not findings.

    Example:
        >>> loss = DiagnosisLoss()
        >>> certain = torch.tensor([[9.0, -9.0]])
        >>> round(float(loss(certain, torch.tensor([1]))), 2)
        18.0
        >>> round(float(loss(certain, torch.tensor([[1.0, float("nan")]]))), 4)
        0.0001
    """

    def __init__(
        self,
        weights: Sequence[float] | None = None,
        *,
        focal: float = 0.0,
        smoothing: float = 0.0,
        exclusive: bool = False,
    ) -> None:
        super().__init__()
        self.weights: Tensor | None
        given = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", given, persistent=False)
        self.focal = focal
        self.smoothing = smoothing
        self.exclusive = exclusive

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: ``(batch, classes)``.
            target: the numbers of the classes, ``(batch,)``, or their shares or findings in 0, 1 and NaN,
                ``(batch, classes)``.
        """
        if target.ndim == 1:
            return self._of_classes(logits, F.one_hot(target.long(), logits.shape[1]).to(logits.dtype))
        if self.exclusive:
            return self._of_classes(logits, target.to(logits.dtype))
        return self._of_findings(logits, target.to(logits.dtype))

    def _of_classes(self, logits: Tensor, shares: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, dim=1)
        truth = shares * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        losses = -(truth * (1 - log_p.exp()) ** self.focal * log_p).sum(1)
        weights = torch.ones_like(losses) if self.weights is None else shares @ self.weights.to(losses)
        return weighted_mean(losses, weights)

    def _of_findings(self, logits: Tensor, target: Tensor) -> Tensor:
        known = ~torch.isnan(target)
        present = torch.nan_to_num(target)
        truth = present * (1 - self.smoothing) + self.smoothing / 2
        both = F.logsigmoid(logits), F.logsigmoid(-logits)
        losses = -(
            truth * (1 - both[0].exp()) ** self.focal * both[0]
            + (1 - truth) * (1 - both[1].exp()) ** self.focal * both[1]
        )
        weights = known.to(losses.dtype)
        if self.weights is not None:
            weights = weights * (1 + present * (self.weights.to(losses) - 1))
        return weighted_mean(losses, weights, least=1e-6)
