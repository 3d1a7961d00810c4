"""Voxels of one label near each other, voxels of others apart."""

import torch
from torch import Tensor
from torch.nn import functional as F


def voxel_contrast(features: Tensor, labels: Tensor, temperature: float = 0.33) -> Tensor:
    r"""Supervised contrastive loss among sampled voxels of each volume.

    For a voxel :math:`i` with unit feature :math:`z_i`, those of its label :math:`P(i)` and all others :math:`A(i)`:

    .. math:: L_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{\exp(z_i \cdot z_p / \tau)}
              {\sum_{a \in A(i)} \exp(z_i \cdot z_a / \tau)}

    averaged over the voxels that have a fellow. Khosla et al., *Supervised Contrastive Learning*, NeurIPS 2020; between
    the voxels of two appearances as in Dey et al., *Learning General-purpose Biomedical Volume Representations using
    Randomized Synthesis*, ICLR 2025.

    Args:
        features: ``(batch, voxels, channels)``, normalised here.
        labels: ``(batch, voxels)``, integers; voxels of different volumes are never compared.
        temperature: :math:`\tau`; a small one looks at the nearest voxels alone.

    Example:
        >>> features = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
        >>> good = voxel_contrast(features, torch.tensor([[0, 0, 1, 1]]))
        >>> bad = voxel_contrast(features, torch.tensor([[0, 1, 0, 1]]))
        >>> bool(good < bad)
        True
    """
    # in float32: an exponential of a number with eight bits is off by percents
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=-1)
        similarity = unit @ unit.transpose(1, 2) / temperature
    itself = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    likelihood = similarity - similarity.masked_fill(itself, float("-inf")).logsumexp(dim=-1, keepdim=True)
    fellow = (labels[:, :, None] == labels[:, None, :]) & ~itself
    fellows = fellow.sum(dim=-1)
    loss = -(likelihood * fellow).sum(dim=-1) / fellows.clamp(min=1)
    return loss.sum() / (fellows > 0).sum().clamp(min=1)
