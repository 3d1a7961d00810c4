"""Structure without intensity: the MIND descriptor, and a U-Net that sees nothing else."""

from typing import Any

import torch
from monai.networks.layers import gaussian_1d
from monai.networks.nets import UNet
from torch import Tensor


def mind_descriptor(images: Tensor, *, distance: int = 1, sigma: float = 0.8) -> Tensor:
    r"""The modality independent neighbourhood descriptor of every voxel.

    With :math:`D_r(x) = G_\sigma * (I(x) - I(x + r))^2` the distance of the patch at :math:`x` from the patch at
    :math:`x + r`, for the direct neighbours :math:`r` of a voxel:

    .. math:: \mathrm{MIND}_r(x) = \exp\left(-\frac{D_r(x) - \min_{r'} D_{r'}(x)}{V(x)}\right), \qquad
       V(x) = \frac{1}{|R|} \sum_r D_r(x)

    where :math:`V` is kept within 0.001 and 1000 times its mean over the image, and a voxel differs by 0 from what lies
    beyond the image. It is unchanged by any affine map of intensities, and nearly so by a change of contrast. Heinrich
    et al., *MIND*, MedIA 2012.

    Args:
        images: ``(batch, channels, *spatial)``, float32.
        distance: distance of the neighbours in voxels.
        sigma: width of the patch in voxels.

    Returns:
        features ``(batch, channels * 2 * spatial_dims, *spatial)`` in ``(0, 1]``; those of a channel follow each other.
    """
    kernel = gaussian_1d(torch.tensor(sigma), truncated=4.0)
    ends = [_distances(images, axis, distance, kernel) for axis in range(2, images.ndim)]
    distances = torch.stack([each for both in ends for each in both], dim=2)
    variance = distances.mean(2, keepdim=True)
    # flat regions (air) have no variance: dividing by it would make structure of nothing
    typical = variance.mean(tuple(range(1, variance.ndim)), keepdim=True)
    variance = variance.clamp(min=(typical * 1e-3).clamp(min=1e-12), max=(typical * 1e3).clamp(min=1e-12))
    return torch.exp((distances.amin(2, keepdim=True) - distances) / variance).flatten(1, 2)


class MINDUNet(UNet):
    """MONAI's ``UNet`` on the :func:`mind_descriptor` of its images.

    No affine map of intensities changes what it draws, and a change of contrast little: with random contrasts in its
    training (``GIN``) it is the network of Weihsbach et al., *DG-TTA*, 2023.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the images.
        out_channels: classes with the background.
        unet: further arguments of ``UNet``, such as ``channels`` and ``strides``.

    Example:
        >>> network = MINDUNet(2, in_channels=1, out_channels=3, channels=[8, 16], strides=[2]).eval()
        >>> image = torch.rand(1, 1, 32, 32)
        >>> bool(torch.allclose(network(image), network(7 - 3 * image), atol=1e-3))
        True
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, **unet: Any):
        super().__init__(spatial_dims, in_channels * 2 * spatial_dims, out_channels, **unet)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, out_channels, *spatial)`` of images ``(batch, in_channels, *spatial)``."""
        logits: Tensor = super().forward(_described(x))
        return logits


def _described(images: Tensor) -> Tensor:
    """Their descriptors in float32: differences of neighbours cancel in bfloat16."""
    with torch.autocast(images.device.type, enabled=False):
        return mind_descriptor(images.float())


def _distances(images: Tensor, axis: int, distance: int, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Of every voxel from the neighbour before and the one behind it along an axis; 0 where the image ends."""
    size = images.shape[axis]
    apart = min(distance, size)
    squared = (images.narrow(axis, apart, size - apart) - images.narrow(axis, 0, size - apart)).square()
    for other in range(2, images.ndim):
        if other != axis:
            squared = _along(squared, other, _band(kernel, images.shape[other], images.shape[other], 0))
    # the same differences, seen from both of their ends
    both = _along(squared, axis, _band(kernel, size + apart, size - apart, apart))
    return both.narrow(axis, 0, size), both.narrow(axis, apart, size)


def _band(kernel: Tensor, rows: int, columns: int, offset: int) -> Tensor:
    """The matrix that convolves a line of zeros around ``columns`` values, beginning ``offset`` before them."""
    radius = len(kernel) // 2
    place = torch.arange(columns) - torch.arange(rows)[:, None] + offset + radius
    return torch.where((place >= 0) & (place < len(kernel)), kernel[place.clamp(0, len(kernel) - 1)], 0.0)


def _along(images: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """A matrix times every line of an axis: over the lengths of windows quicker than a convolution by its kernel."""
    lines = images.reshape(-1, images.shape[axis], images.shape[axis + 1 :].numel())
    changed = matrix.to(images) @ lines
    return changed.reshape(*images.shape[:axis], len(matrix), *images.shape[axis + 1 :])
