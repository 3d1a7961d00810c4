"""Random numbers and smooth random fields on the device of a generator, for a whole batch at a time."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def uniform(low: float, high: float, shape: Sequence[int], generator: Generator) -> Tensor:
    """Numbers between ``low`` and ``high`` on the generator's device."""
    return low + (high - low) * torch.rand(list(shape), generator=generator, device=generator.device)


def white_noise(shape: Sequence[int], generator: Generator) -> Tensor:
    """Independent normal numbers on the generator's device."""
    return torch.randn(list(shape), generator=generator, device=generator.device)


def smooth_noise(batch: int, channels: int, size: Sequence[int], cells: int, generator: Generator) -> Tensor:
    """Normal numbers on a coarse grid, interpolated in between.

    Args:
        batch: number of volumes.
        channels: independent fields of each.
        size: voxels along the three axes.
        cells: nodes of the coarse grid along each axis, at most as many as there are voxels.
        generator: where the numbers come from, and the device.

    Returns:
        ``(batch, channels, *size)``.
    """
    nodes = [max(2, min(cells, length)) for length in size]
    coarse = white_noise((batch, channels, *nodes), generator)
    return F.interpolate(coarse, size=tuple(size), mode="trilinear", align_corners=True)


def blur(image: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian blur of each volume with a deviation of its own.

    Args:
        image: ``(batch, 1, *spatial)``.
        deviation: ``(batch,)``, voxels; kernels end at four voxels.
    """
    # nine voxels hold all of a Gaussian up to two voxels wide, and a fixed size asks no device for a number
    radius = 4
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset / deviation.clamp(min=0.05)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    batch = image.shape[0]
    volumes = image.transpose(0, 1)  # the volumes as channels of one: each is convolved with its own kernel
    for axis in range(3):
        shape, padding = [batch, 1, 1, 1, 1], [0] * 6
        shape[2 + axis] = 2 * radius + 1
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        volumes = F.conv3d(F.pad(volumes, padding, mode="replicate"), kernel.reshape(shape), groups=batch)
    return volumes.transpose(0, 1)
