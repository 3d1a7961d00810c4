"""The supervised loss that learns small organs in few steps."""

import torch
from torch import Tensor, nn

from monai_transfer.losses.class_sums import class_sums
from monai_transfer.processes import mean_over_processes

_SMOOTH = 1e-5


class ClassBalancedDiceCELoss(nn.Module):
    r"""Dice (or Jaccard) over the batch plus cross entropy, weighted by how rare each class is.

    .. math:: L = \lambda_\text{dice} L_\text{dice}
              + \lambda_\text{ce} \frac{\sum_v w_{y_v} (-\log p_{v, y_v})}{\sum_v w_{y_v}},
              \qquad w_c = f_c^{-\gamma}

    where :math:`f_c` is the share of class :math:`c` among the voxels, a running mean over the batches seen (kept in
    the state dict). Without it the background, more than nine voxels in ten of a body scan, has to be learnt first.
    Dice is taken over the whole batch: Milletari et al., *V-Net*, 3DV 2016; inverse-frequency weights: Ronneberger
    et al., *U-Net*, MICCAI 2015.

    Args:
        num_classes: classes with the background.
        jaccard: use the IoU loss in place of Dice.
        lambda_dice: weight of the overlap term.
        lambda_ce: weight of the cross entropy.
        gamma: 0 weighs all voxels alike, 1 all classes alike.
        momentum: weight of a new batch in the running mean.

    Example:
        >>> loss = ClassBalancedDiceCELoss(num_classes=3)
        >>> label = torch.tensor([[[[0, 1], [2, 0]]]])
        >>> sure = 20.0 * torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1)
        >>> round(float(loss(sure, label)), 3), round(float(loss(torch.zeros(1, 3, 2, 2), label)), 3)
        (0.0, 1.775)
        >>> loss.frequency
        tensor([0.5000, 0.2500, 0.2500])
    """

    frequency: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        jaccard: bool = False,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        gamma: float = 0.5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.lambda_dice = lambda_dice
        self.lambda_ce = lambda_ce
        self.gamma = gamma
        self.momentum = momentum
        self.jaccard = jaccard
        self.register_buffer("frequency", torch.zeros(num_classes))

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss of ``logits`` ``(batch, classes, *spatial)`` and ``label`` ``(batch, 1, *spatial)``.

        Raises:
            ValueError: when the label holds a value outside ``[0, num_classes)``.
        """
        label = label.long()
        least, greatest = label.aminmax()
        if int(greatest) >= self.num_classes or int(least) < 0:
            raise ValueError(f"the label holds {int(greatest)}, but there are {self.num_classes} classes")
        if self.training:
            self._count(label)
        # a class that was never seen has frequency 0: the clamp bounds its weight
        weight = self.frequency.to(logits).clamp(min=1e-6) ** -self.gamma
        sums = class_sums(logits, label, weights=weight)
        return self.lambda_dice * sums.dice_loss(_SMOOTH, jaccard=self.jaccard) + self.lambda_ce * sums.cross_entropy()

    def _count(self, label: Tensor) -> None:
        share = torch.bincount(label.flatten(), minlength=self.num_classes).float() / label.numel()
        share = mean_over_processes(share.to(self.frequency.device))
        # the first batch sets the mean, which would otherwise rise from zero over tens of steps
        momentum = self.momentum if bool(self.frequency.any()) else 1.0
        self.frequency.lerp_(share, momentum)
