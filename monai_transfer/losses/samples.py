"""Feature maps as sets of vectors."""

import torch
from torch import Tensor

from monai_transfer.processes import gather_over_processes


def voxel_samples(features: Tensor, limit: int) -> Tensor:
    """Feature vectors of at most ``limit`` voxels at even distances, always the same ones.

    Args:
        features: ``(batch, channels, *spatial)``, or ``(batch, channels)`` which gives one vector per sample.
        limit: greatest number of vectors over the batch.

    Returns:
        ``(vectors, channels)`` in float32 at least.

    Example:
        >>> voxel_samples(torch.rand(2, 16, 8, 8, 8), limit=100).shape
        torch.Size([100, 16])
    """
    vectors = features.flatten(2).movedim(1, -1).flatten(0, -2) if features.ndim > 2 else features
    vectors = gather_over_processes(vectors)
    if len(vectors) > limit:
        # even distances and not chance: a score of the same network stays the same
        chosen = torch.linspace(0, len(vectors) - 1, limit, device=vectors.device).round().long()
        vectors = vectors[chosen]
    return vectors if vectors.dtype == torch.float64 else vectors.float()
