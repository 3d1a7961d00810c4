"""Entropy of predictions, as a loss and as maps."""

import math

import torch.nn.functional as F
from torch import Tensor

from monai_transfer.losses.means import weighted_mean


def self_information(logits: Tensor) -> Tensor:
    r"""Weighted self-information of each class at each voxel, normalised to sum to the relative entropy.

    .. math:: I_{vk} = -\frac{p_{vk} \log p_{vk}}{\log K}

    Vu et al., *ADVENT: Adversarial Entropy Minimization*, CVPR 2019.

    Args:
        logits: ``(batch, classes, *spatial)``, at least two classes.

    Returns:
        ``(batch, classes, *spatial)``, at least 0.

    Example:
        >>> import torch
        >>> self_information(torch.zeros(1, 2, 3)).sum(1)
        tensor([[1., 1., 1.]])
    """
    log_p = F.log_softmax(logits, dim=1)
    # log K is the entropy of K equal classes, so that 1 means the same for any number of classes
    return (log_p.exp() * log_p).mul_(-1 / math.log(logits.shape[1]))


def entropy_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean Shannon entropy over voxels, 0 for certain and 1 for uniform predictions.

    .. math:: H = -\frac{1}{|M| \log K} \sum_{v \in M} \sum_k p_{vk} \log p_{vk}

    Grandvalet and Bengio, NeurIPS 2004; Vu et al., CVPR 2019.

    Args:
        logits: ``(batch, classes, *spatial)``, at least two classes.
        mask: ``(batch, 1, *spatial)``, the voxels that count; all by default.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> uniform, certain = torch.zeros(1, 4, 8, 8), torch.tensor([[[100.0], [0.0]]])
        >>> float(entropy_loss(uniform)), round(float(entropy_loss(certain)), 6)
        (1.0, 0.0)
    """
    voxels = self_information(logits).sum(1, keepdim=True)
    if mask is None:
        return voxels.mean()
    # a mask without voxels gives 0 over 1, and no NaN
    return weighted_mean(voxels, mask.to(voxels.dtype), least=1.0)
