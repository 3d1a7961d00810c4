"""Fusion of modalities in the middle of a network: each channel has a stem of its own."""

from typing import Any

from monai.networks.blocks import Convolution
from monai.networks.nets import UNet
from torch import Tensor, nn


class StemmedUNet(UNet):
    """MONAI's ``UNet`` behind one stem of two convolutions for each input channel.

    Grouped convolutions find the features of a modality apart from those of the others; they meet in the first level of
    the U-Net (mid fusion). The plain ``UNet`` sums the modalities in its first convolution (early fusion). What a stem
    makes of an absent channel does not depend on the others.

    Args:
        spatial_dims: 2 or 3.
        in_channels: modalities.
        out_channels: classes with the background.
        stem_channels: features of each modality.
        unet: further arguments of ``UNet``, such as ``channels`` and ``strides``.

    Example:
        >>> import torch
        >>> network = StemmedUNet(2, in_channels=2, out_channels=3, channels=[8, 16], strides=[2])
        >>> network(torch.rand(1, 2, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stem_channels: int = 8, **unet: Any):
        super().__init__(spatial_dims, in_channels * stem_channels, out_channels, **unet)
        # a factor of its own for no channel: PReLU's single slope would tie the stems together
        layer = {"groups": in_channels, "norm": "INSTANCE", "act": "LEAKYRELU"}
        width = in_channels * stem_channels
        self.stems = nn.Sequential(
            Convolution(spatial_dims, in_channels, width, **layer), Convolution(spatial_dims, width, width, **layer)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, out_channels, *spatial)`` of images ``(batch, in_channels, *spatial)``."""
        logits: Tensor = super().forward(self.stems(x))
        return logits
