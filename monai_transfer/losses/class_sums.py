"""What Dice and cross entropy need of a batch: sums over its voxels, class by class, in one pass each way."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_transfer.processes import sum_over_processes


class ClassSums(NamedTuple):
    """Sums over the voxels that count, of all processes.

    Attributes:
        shared: probability of each class on the voxels that are labelled so, ``(classes,)``.
        both: probability of each class on all voxels, and the number of voxels that are labelled so, ``(classes,)``.
        surprise: minus the weighted log probability of the labels, a scalar.
        weight: the weights of the labels, a scalar.
    """

    shared: Tensor
    both: Tensor
    surprise: Tensor
    weight: Tensor

    def dice_loss(self, smooth: float, *, jaccard: bool = False) -> Tensor:
        r"""One minus the mean Dice of the classes, :math:`(2 s + \epsilon) / (b + \epsilon)`, or Jaccard index."""
        # 2 (|A| + |B| - |A∩B|): the factor 2 stands above the line as well
        bottom = 2 * (self.both - self.shared) if jaccard else self.both
        return 1 - ((2 * self.shared + smooth) / (bottom + smooth)).mean()

    def cross_entropy(self) -> Tensor:
        r"""The weighted mean :math:`\sum_v w_{y_v} (-\log p_{v y_v}) / \sum_v w_{y_v}`, as torch weighs it."""
        return self.surprise / self.weight


def class_sums(logits: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> ClassSums:
    """The sums of logits ``(batch, classes, *spatial)`` and class numbers ``(batch, 1, *spatial)``.

    Neither the labels as one-hot maps nor the steps between softmax and sums are kept: the gradient is written down.

    Args:
        logits: not yet softmaxed.
        labels: int64, in ``[0, classes)``.
        mask: the voxels that count, shaped like ``labels``; all by default.
        weights: ``(classes,)`` of the cross entropy, 1 by default.

    Example:
        >>> sums = class_sums(torch.zeros(1, 2, 4), torch.tensor([[[0, 1, 1, 1]]]))
        >>> sums.shared, sums.both
        (tensor([0.5000, 1.5000]), tensor([3., 5.]))
        >>> round(float(sums.cross_entropy()), 3)
        0.693
    """
    classes = logits.shape[1]
    if weights is None:
        weights = logits.new_ones(classes)
    counted = labels.flatten() if mask is None else labels[mask]
    number = torch.bincount(counted, minlength=classes).to(logits)
    voxels = None if mask is None else mask.flatten(2)
    shared, predicted, surprise = _Sums.apply(logits.flatten(2), labels.flatten(2), voxels, weights)  # type: ignore[no-untyped-call]
    found = (shared, predicted + number, surprise, (number * weights).sum())
    return ClassSums(*(sum_over_processes(value) for value in found))


class _Sums(torch.autograd.Function):
    """Sums of ``p_c`` where the label is ``c``, of ``p_c``, and of ``-w_y log p_y``."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, mask: Tensor | None, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_p = F.log_softmax(logits, dim=1)
        log_own = log_p.gather(1, labels)
        p, own = log_p.exp_(), log_own.exp()
        ctx.save_for_backward(p, own, labels, mask, weights)
        counted, surprise = p, log_own.mul_(_of_class(weights, labels))
        if mask is not None:
            counted, own, surprise = p * mask, own * mask, surprise * mask
        shared = p.new_zeros(len(weights)).index_add_(0, labels.flatten(), own.flatten())
        return shared, counted.sum([0, 2]), -surprise.sum()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, shared: Tensor, predicted: Tensor, surprise: Tensor) -> tuple[Tensor | None, ...]:
        p, own, labels, mask, weights = ctx.saved_tensors
        # by the log probability: p_c times what p_c adds to the sums, and of the label's own class this besides
        extra = own.mul(_of_class(shared, labels)).sub_(_of_class(surprise * weights, labels))
        # softmax takes off each voxel's sum of these, shared out by p
        with torch.autocast(p.device.type, enabled=False):
            total = torch.matmul(predicted, p)[:, None] + extra
        gradient = torch.sub(predicted[:, None], total).mul_(p).scatter_add_(1, labels, extra)
        return gradient if mask is None else gradient.mul_(mask), None, None, None


def _of_class(values: Tensor, labels: Tensor) -> Tensor:
    """For each voxel the value of its class."""
    return values.index_select(0, labels.flatten()).view_as(labels)
