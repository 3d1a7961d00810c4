"""How far a student's predictions are from a teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_transfer.losses.class_sums import class_sums
from monai_transfer.losses.means import weighted_mean
from monai_transfer.processes import sum_over_processes


def soft_cross_entropy(logits: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Cross entropy against a distribution, averaged over voxels.

    .. math:: L = -\frac{1}{|M|} \sum_{v \in M} \sum_k p_{vk} \log \mathrm{softmax}(z_v)_k

    Args:
        logits: the student's, ``(batch, classes, *spatial)``.
        probabilities: the teacher's, same shape, summing to 1 over classes.
        mask: ``(batch, 1, *spatial)``, the voxels that count; all by default, and none gives 0.

    Returns:
        A scalar.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 4), torch.tensor([[1.0, 0.0]])[..., None].expand(1, 2, 4)
        >>> round(float(soft_cross_entropy(student, teacher)), 3)
        0.693
    """
    return _masked_mean(-(probabilities * F.log_softmax(logits, dim=1)).sum(1, keepdim=True), mask)


def probability_mse(logits: Tensor, probabilities: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Squared distance of distributions, summed over classes and averaged over voxels.

    .. math:: L = \frac{1}{|M|} \sum_{v \in M} \lVert p_v - \mathrm{softmax}(z_v) \rVert^2

    Tarvainen and Valpola, *Mean teachers are better role models*, NeurIPS 2017. Shapes as in
    :func:`soft_cross_entropy`.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 4), torch.tensor([[1.0, 0.0]])[..., None].expand(1, 2, 4)
        >>> float(probability_mse(student, teacher))
        0.5
    """
    return _masked_mean((probabilities - F.softmax(logits, dim=1)).square().sum(1, keepdim=True), mask)


def pseudo_label_loss(
    logits: Tensor, labels: Tensor, mask: Tensor | None = None, *, class_weights: Tensor | None = None
) -> Tensor:
    r"""Dice and cross entropy against pseudo-labels, over the voxels that are trusted.

    .. math:: L = \frac{\sum_{v \in M} w_{y_v} \, (-\log p_{v y_v})}{\sum_{v \in M} w_{y_v}} + 1 - \frac{1}{K}
       \sum_k \frac{2 \sum_{v \in M} p_{vk} [y_v = k] + 1}{\sum_{v \in M} (p_{vk} + [y_v = k]) + 1}

    Args:
        logits: the student's, ``(batch, classes, *spatial)``.
        labels: class numbers, ``(batch, 1, *spatial)``.
        mask: ``(batch, 1, *spatial)``, the voxels that count; all by default, and none gives 0.
        class_weights: ``(classes,)`` of the cross entropy, 1 by default.

    Returns:
        A scalar.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 4), torch.tensor([[[0, 1, 1, 1]]])
        >>> round(float(pseudo_label_loss(logits, labels)), 3)
        1.11
        >>> float(pseudo_label_loss(logits, labels, mask=torch.zeros(1, 1, 4)))
        0.0
    """
    labels = labels.long()
    mask = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.bool()
    if not bool(sum_over_processes(mask.any().float())):
        # a zero with a graph: the caller's backward pass must find one
        return logits.sum() * 0.0
    sums = class_sums(logits, labels, mask, class_weights)
    return sums.cross_entropy() + sums.dice_loss(smooth=1.0)


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    # a mask without voxels gives 0 over 1, and no NaN
    return weighted_mean(values, mask.to(values.dtype), least=1.0)
