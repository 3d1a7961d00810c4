"""A U-Net that sees its images and, beside them, how each place differs from its neighbours."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers import Conv, SkipConnection
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_FLAT = 1e-7
"""Squared distances below this are those of flat regions; images are about 1 in scale. It is more than 0 in float16."""

_STEEP = 0.8
"""With it the hyperbolic tangent is near 1 less the exponential of minus the same ratio, which MIND is."""


class StructureUNet(UNet):
    r"""MONAI's ``UNet`` on its images and, beside them, their structure.

    The structure of a place :math:`x` is how much it differs from each of its direct neighbours :math:`r`, relative to
    all of them:

    .. math:: S_r(x) = 2 \tanh \frac{0.8\, V(x)\, D_r(x)}{10^{-7} + V(x)^2}, \qquad
       V(x) = \frac{1}{|R|} \sum_r D_r(x), \qquad
       D_r(x) = \frac{1}{3^n} \sum_{p \in P(x)} (I(p) - I(p + r))^2

    with :math:`P(x)` those of the :math:`3^n` places around it in :math:`n` dimensions that the image has; its last
    values go on beyond it. It is near 1 less the descriptor MIND, :math:`\exp(-D_r / V)` (Heinrich et al., MedIA 2012),
    which stays nearly the same where contrast changes or is turned round. Unlike that it is made of layers of PyTorch
    and of MONAI: in a bundle this network is spelled out, and runs without this package.

    All but the first convolution are those of a ``UNet`` of the images. That has more input channels, whose
    kernels are zero at first: with the weights of a ``UNet`` it is that network until it learns.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the images.
        out_channels: classes with the background.
        channels: features of each level, two or more.
        unet: further arguments of ``UNet``, such as ``strides``, but for ``num_res_units``.

    Attributes:
        beside: input channels of the first convolution that are the structure's.

    Example:
        >>> network = StructureUNet(2, in_channels=1, out_channels=3, channels=[8, 16], strides=[2]).eval()
        >>> image = torch.rand(1, 1, 32, 32)
        >>> network(image).shape
        torch.Size([1, 3, 32, 32])
        >>> seen = network.structure(image)
        >>> seen.shape, bool(torch.allclose(network.structure(-image)[:, 1:], seen[:, 1:]))
        (torch.Size([1, 5, 32, 32]), True)
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, channels: Sequence[int], **unet: Any):
        self.beside = in_channels * 2 * spatial_dims
        given = {**unet, "num_res_units": 0}
        super().__init__(spatial_dims, in_channels + self.beside, out_channels, channels, **given)
        self.structure = SkipConnection(_Structure(spatial_dims, in_channels))
        kernel = self.model[0].conv.weight
        with torch.no_grad():
            kernel.zero_()
            # as a convolution of the images alone begins
            nn.init.kaiming_uniform_(kernel[:, :in_channels], a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, out_channels, *spatial)`` of images ``(batch, in_channels, *spatial)``."""
        logits: Tensor = self.model(self.structure(x))
        return logits


class _Structure(nn.Sequential):
    """The layers of the structure, in float32: in less, neighbours cancel."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        convolution, further = Conv[Conv.CONV, spatial_dims], 2 * spatial_dims * channels
        # V / (flat + V²) of the mean V of all
        relative = nn.Sequential(
            convolution(further, 1, 1, bias=False),
            nn.LocalResponseNorm(1, alpha=1 / _STEEP, beta=1.0, k=_FLAT / _STEEP),
        )
        super().__init__(
            convolution(channels, further, 3, padding=1, bias=False, groups=channels, padding_mode="replicate"),
            SkipConnection(nn.Identity(), mode="mul"),  # squared
            convolution(further, further, 3, padding=1, bias=False, groups=further),  # means of three along each axis
            SkipConnection(relative, mode="mul"),
            nn.Tanh(),
            SkipConnection(nn.Identity(), mode="add"),  # doubled
        )
        differences, *means = (layer for layer in self.modules() if isinstance(layer, _ConvNd))
        _fix(differences, _differences(spatial_dims).repeat(channels, 1, *[1] * spatial_dims))
        for layer in means:
            _fix(layer, torch.full(layer.weight.shape, 1 / layer.weight[0].numel()))

    def forward(self, images: Tensor) -> Tensor:
        """Structure ``(batch, channels * 2 * spatial_dims, *spatial)`` of images ``(batch, channels, *spatial)``."""
        with torch.autocast(images.device.type, enabled=False):
            # by shifting: on a CPU that takes a quarter of the convolution's time
            found = _neighbour_differences(images.float())
            for layer in list(self)[1:]:
                found = layer(found)
        return found


def _fix(layer: nn.Module, kernel: Tensor) -> None:
    """Give a convolution a kernel that is never learnt."""
    del layer.weight
    layer.register_buffer("weight", kernel)


def _neighbour_differences(images: Tensor) -> Tensor:
    """What the convolution by :func:`_differences` gives."""
    found = []
    for axis in range(2, images.ndim):
        apart = images.diff(dim=axis)
        beyond = torch.zeros_like(images.narrow(axis, 0, 1))
        found += [torch.cat([beyond, apart], dim=axis), torch.cat([-apart, beyond], dim=axis)]
    return torch.stack(found, dim=2).flatten(1, 2)


def _differences(spatial_dims: int) -> Tensor:
    """Kernels of a place minus its neighbours, before and behind along each axis in turn."""
    kernels = torch.zeros(2 * spatial_dims, 1, *[3] * spatial_dims)
    for number, kernel in enumerate(kernels):
        axis, side = divmod(number, 2)
        place = [1] * spatial_dims
        kernel[(0, *place)] = 1
        place[axis] = 2 * side
        kernel[(0, *place)] = -1
    return kernels
