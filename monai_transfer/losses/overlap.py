"""How far predicted probabilities and labels overlap, without a one-hot copy of the labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from monai_transfer.processes import sum_over_processes


class Overlap(NamedTuple):
    """Soft counts of each class over the whole batch, ``(classes,)`` each.

    Attributes:
        shared: probability of the class on the voxels that are labelled so.
        both: probability of the class on all voxels, and the number of voxels that are labelled so.
    """

    shared: Tensor
    both: Tensor

    def loss(self, smooth: float, *, jaccard: bool = False) -> Tensor:
        r"""One minus the mean Dice of the classes, :math:`(2 s + \epsilon) / (b + \epsilon)`, or Jaccard index."""
        # 2 (|A| + |B| - |A∩B|): the factor 2 stands above the line as well
        bottom = 2 * (self.both - self.shared) if jaccard else self.both
        return 1 - ((2 * self.shared + smooth) / (bottom + smooth)).mean()


def overlap(log_p: Tensor, labels: Tensor, mask: Tensor | None = None) -> Overlap:
    """Overlap of log probabilities ``(batch, classes, *spatial)`` with class numbers ``(batch, 1, *spatial)``.

    Only the voxels of ``mask``, shaped like ``labels``, count.
    """
    classes = log_p.shape[1]
    p = log_p.exp()
    # index_add over the labels' own probabilities replaces a one-hot copy of classes × voxels
    of_label = p.gather(1, labels)
    counted = labels.flatten()
    if mask is not None:
        p, of_label, counted = p * mask, of_label * mask, labels[mask]
    shared = p.new_zeros(classes).index_add(0, labels.flatten(), of_label.flatten())
    predicted = p.sum([0, *range(2, p.ndim)])
    both = predicted + torch.bincount(counted, minlength=classes)
    return Overlap(sum_over_processes(shared), sum_over_processes(both))
