"""Small networks that tell the domains apart."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as _spectral_norm


def _bounded(layer: nn.Module, spectral_norm: bool) -> nn.Module:
    return _spectral_norm(layer) if spectral_norm else layer


class PooledDiscriminator(nn.Module):
    """Global average pooling and a small perceptron: one domain logit per sample.

    Pooling makes it indifferent to the number of spatial dimensions and to the patch size. It runs in float32,
    whatever autocast says.

    Args:
        in_channels: channels of the features.
        hidden: width of each hidden layer.
        dropout: share of hidden units dropped in training.
        spectral_norm: whether every layer is spectrally normalised (Miyato et al., ICLR 2018).

    Example:
        >>> PooledDiscriminator(in_channels=8)(torch.rand(2, 8, 4, 4, 4)).shape
        torch.Size([2, 1])
    """

    def __init__(
        self, in_channels: int, hidden: Sequence[int] = (128, 128), *, dropout: float = 0.0, spectral_norm: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [in_channels, *hidden]
        for wide_in, wide_out in pairwise(widths):
            layers += [_bounded(nn.Linear(wide_in, wide_out), spectral_norm), nn.LeakyReLU(0.2)]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(_bounded(nn.Linear(widths[-1], 1), spectral_norm))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Domain logits ``(batch, 1)`` of features ``(batch, channels, *spatial)`` or ``(batch, channels)``."""
        with torch.autocast(features.device.type, enabled=False):
            pooled = features.float().flatten(2).mean(2) if features.ndim > 2 else features.float()
            out: Tensor = self.layers(pooled)
        return out


class PatchDomainDiscriminator(nn.Module):
    """Strided convolutions: one domain logit per patch, as in PatchGAN (Isola et al., CVPR 2017).

    Unlike MONAI's ``PatchDiscriminator`` it has no normalisation layers, whose batch statistics would give the domain
    away, can be spectrally normalised, takes inputs of any size, and runs in float32, whatever autocast says. Its
    weights lie channels last: a CPU then takes a quarter of the time for the first layer, which has few channels.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the maps.
        channels: width of the first layer; it doubles with every further layer.
        layers: number of layers of stride 2, at least 1.
        spectral_norm: whether every layer is spectrally normalised (Miyato et al., ICLR 2018).

    Example:
        >>> PatchDomainDiscriminator(spatial_dims=2, in_channels=5)(torch.rand(1, 5, 64, 64)).shape
        torch.Size([1, 1, 8, 8])
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, *, channels: int = 16, layers: int = 3, spectral_norm: bool = False
    ) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]
        blocks: list[nn.Module] = []
        width = in_channels
        for number in range(layers):
            wider = channels * 2**number
            layer = convolution(width, wider, kernel_size=3, stride=2, padding=1)
            blocks += [_bounded(layer, spectral_norm), nn.LeakyReLU(0.2)]
            width = wider
        blocks.append(_bounded(convolution(width, 1, kernel_size=3, padding=1), spectral_norm))
        # channels last: the first layer has few channels, and a CPU takes a quarter of the time for it
        layout = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
        self.layers = nn.Sequential(*blocks).to(memory_format=layout)  # type: ignore[call-overload]

    def forward(self, maps: Tensor) -> Tensor:
        """Domain logits ``(batch, 1, *smaller)`` of maps ``(batch, channels, *spatial)``."""
        with torch.autocast(maps.device.type, enabled=False):
            out: Tensor = self.layers(maps.float())
        return out
