"""How good predictions look when nobody knows the truth."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_transfer.losses.samples import voxel_samples


def information_score(probabilities: Tensor) -> Tensor:
    r"""Mutual information of voxel and class: predictions that are certain, and not all the same; higher is better.

    .. math:: I = \frac{H(\bar p) - \overline{H(p_v)}}{\log K}

    Unlike entropy alone it is 0, its worst, for a network that gives one class everywhere. Hu et al., *Learning
    Discrete Representations via Information Maximizing Self-Augmented Training*, ICML 2017; Liang et al., ICML 2020.

    Args:
        probabilities: ``(batch, classes, *spatial)``, summing to 1 over classes.

    Returns:
        A scalar in ``[0, 1]``.

    Example:
        >>> collapsed, two_classes = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]), torch.eye(2)[None]
        >>> float(information_score(collapsed)), float(information_score(two_classes))
        (0.0, 1.0)
    """
    p = probabilities.float()
    # over voxels and batch at once: one class everywhere is only seen on the whole
    mean = p.movedim(1, -1).flatten(0, -2).mean(0)
    # xlogy gives 0 for 0 log 0, where log alone gives NaN
    conditional: Tensor = -torch.special.xlogy(p, p).sum(1).mean()
    marginal: Tensor = -torch.special.xlogy(mean, mean).sum()
    return (marginal - conditional) / math.log(p.shape[1])


def soft_neighbourhood_density(vectors: Tensor, *, temperature: float = 0.05, limit: int = 2000) -> Tensor:
    r"""Mean entropy of the similarities of each vector to all others; higher, denser neighbourhoods, is better.

    .. math:: s_{ij} = \mathrm{softmax}_{j \ne i} \frac{\langle x_i, x_j \rangle}{\tau}, \qquad
       \mathrm{SND} = -\frac{1}{n} \sum_i \sum_{j \ne i} s_{ij} \log s_{ij}

    of vectors brought to length 1. Saito et al., *Tune it the Right Way: Unsupervised Validation of Domain Adaptation
    via Soft Neighborhood Density*, ICCV 2021, who use softmax outputs.

    Args:
        vectors: ``(batch, channels, *spatial)`` or ``(n, channels)``; probabilities or features.
        temperature: :math:`\tau`.
        limit: greatest number of vectors, taken at even distances.

    Returns:
        A scalar in ``[0, log(n - 1)]``.

    Example:
        >>> pairs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> round(float(soft_neighbourhood_density(pairs)), 3)
        0.0
        >>> round(float(soft_neighbourhood_density(torch.ones(4, 2))), 3)  # log 3: three neighbours, all alike
        1.099
    """
    x = F.normalize(voxel_samples(vectors, limit), dim=1)
    # a vector is not its own neighbour: minus infinity leaves it out of the softmax
    similarity = (x @ x.T / temperature).fill_diagonal_(-torch.inf)
    # 0 times minus infinity is NaN: the diagonal is made 0 in the logarithm too
    log_s = F.log_softmax(similarity, dim=1).fill_diagonal_(0.0)
    s = F.softmax(similarity, dim=1)
    return -(s * log_s).sum(1).mean()


def label_agreement(first: Tensor, second: Tensor, classes: int) -> Tensor:
    r"""Mean Dice of two label maps over the foreground classes that either has; 1 when neither has any.

    .. math:: A = \frac{1}{|K|} \sum_{k \in K} \frac{2 |F_k \cap S_k|}{|F_k| + |S_k|}

    Args:
        first: class numbers, any shape.
        second: class numbers, same shape.
        classes: number of classes, background (0) included.

    Returns:
        A scalar in ``[0, 1]``.

    Example:
        >>> float(label_agreement(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 0, 2]), classes=3))
        0.8333333333333333
    """
    dice = class_dice(first, second, classes)[1:]
    known = dice[dice.isfinite()]
    return known.mean() if len(known) else known.new_ones(())


def class_dice(first: Tensor, second: Tensor, classes: int) -> Tensor:
    """Dice of two label maps for every class, the background (0) included; NaN where neither map has the class.

    Args:
        first: class numbers, any shape.
        second: class numbers, same shape.
        classes: number of classes.

    Returns:
        ``(classes,)`` in float64.

    Example:
        >>> class_dice(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), classes=4).tolist()[:3]
        [1.0, 0.6666666666666666, 0.6666666666666666]
    """
    # one count of pairs gives every class's overlap and sizes, without one-hot copies
    pairs = torch.bincount((first.long() * classes + second.long()).flatten(), minlength=classes**2)
    table = pairs.reshape(classes, classes).double()
    return 2 * table.diagonal() / (table.sum(0) + table.sum(1))
