"""Fit a tensor of a file to a network's: 2D to 3D, other input channels, other classes."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

Inflation = Literal["mean", "center"]
ChannelRule = Literal["sum", "mean", "replicate"]


def inflate(weight: Tensor, size: int, *, rule: Inflation = "mean", axis: int = -1) -> Tensor:
    r"""Give a 2D kernel a third direction.

    ``mean``: :math:`W_{3D}[\dots, k] = W_{2D} / K`, so that a volume that is constant along the new direction gives
    what the 2D network gives for one of its slices (away from a zero-padded border). ``center``: the 2D kernel in
    the middle plane and zeros elsewhere, which does so at the borders too, and sees single slices at first.

    Carreira and Zisserman, "Quo vadis, action recognition?", CVPR 2017.

    Args:
        weight: kernel of shape ``(out, in, kx, ky)``.
        size: length ``K`` of the kernel in the new direction.
        rule: how the planes are filled.
        axis: where the new direction goes among the spatial ones; the last is the slice axis of a RAS volume.

    Returns:
        Kernel of shape ``(out, in, kx, ky, K)`` for the last axis.
    """
    planes = torch.full((size,), 1.0 / size) if rule == "mean" else torch.zeros(size)
    if rule == "center":
        planes[size // 2] = 1.0
    dimension = axis if axis < 0 else axis + 2
    volume = torch.stack([weight * share for share in planes.to(weight)], dim=dimension)
    return volume.contiguous()


def adapt_input_channels(weight: Tensor, channels: int, *, rule: ChannelRule = "sum") -> Tensor:
    """Change the number of input channels of a first convolution.

    ``sum``: every channel gets the sum over the file's channels divided by the new number, so an image repeated over
    all channels gives what it gave before. ``mean``: every channel gets the mean of the file's. ``replicate``: channel
    *i* gets the file's channel *i* modulo their number, unscaled.

    Args:
        weight: kernel of shape ``(out, in, …)``.
        channels: the new ``in``.
        rule: one of the above.

    Returns:
        Kernel of shape ``(out, channels, …)``.
    """
    if rule == "replicate":
        chosen = torch.arange(channels, device=weight.device) % weight.shape[1]
        return weight.index_select(1, chosen)
    total = weight.sum(dim=1, keepdim=True)
    share = total / channels if rule == "sum" else total / weight.shape[1]
    return share.expand(-1, channels, *share.shape[2:]).contiguous()


def copy_classes(
    fresh: Tensor,
    weight: Tensor,
    *,
    fresh_names: Mapping[int, str],
    names: Mapping[int, str],
    dimensions: Sequence[int],
) -> tuple[Tensor, list[str]]:
    """Copy the rows of the classes that both heads have, by name; the others keep their fresh values.

    Args:
        fresh: the network's tensor.
        weight: the file's tensor; equal in shape but for ``dimensions``.
        fresh_names: class names of the network by index.
        names: class names of the file by index.
        dimensions: the dimensions along which classes lie.

    Returns:
        The new tensor and the names that were copied.
    """
    index_of = {name: index for index, name in names.items()}
    shared = [(new, index_of[name], name) for new, name in sorted(fresh_names.items()) if name in index_of]
    result = fresh.detach().clone()
    if not shared:
        return result, []
    new = torch.tensor([pair[0] for pair in shared])
    old = torch.tensor([pair[1] for pair in shared])
    source, target = weight.to(result.dtype), result
    for dimension in dimensions:
        source = source.index_select(dimension, old)
    grid = [torch.arange(size) for size in target.shape]
    for dimension in dimensions:
        grid[dimension] = new
    target[torch.meshgrid(*grid, indexing="ij")] = source
    return result, [name for _, _, name in shared]
