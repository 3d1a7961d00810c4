"""Networks of image-to-image translation."""

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import Tensor, nn


class _Residual(nn.Module):
    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.first = Convolution(spatial_dims, channels, channels, norm="INSTANCE", act="RELU")
        self.second = Convolution(spatial_dims, channels, channels, norm="INSTANCE", act=None)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(self.first(x))
        return out


class TranslationGenerator(nn.Module):
    """Encoder, residual blocks and decoder that turn an image into one of another appearance and the same size.

    Upsampling is nearest-neighbour and a convolution, which leaves no checkerboard. The generator of Johnson et al.,
    ECCV 2016, as CycleGAN and CUT use it, in two or three dimensions and without a bound on intensities.

    Args:
        spatial_dims: 2 or 3.
        channels: channels of the image.
        width: width of the first layer; it doubles with every halving of the grid.
        halvings: how often the grid is halved.
        blocks: number of residual blocks on the coarsest grid.

    Example:
        >>> import torch
        >>> generator = TranslationGenerator(spatial_dims=2, width=4, blocks=2)
        >>> generator(torch.rand(1, 1, 30, 33)).shape, generator.feature_widths
        (torch.Size([1, 1, 30, 33]), (4, 8, 16, 16))
    """

    def __init__(
        self, spatial_dims: int, channels: int = 1, *, width: int = 16, halvings: int = 2, blocks: int = 4
    ) -> None:
        super().__init__()
        self.halvings = halvings
        widths = [width * 2**level for level in range(halvings + 1)]
        norm = {"norm": "INSTANCE", "act": "RELU"}
        self.stem = Convolution(spatial_dims, channels, width, kernel_size=5, **norm)
        self.down = nn.ModuleList(
            Convolution(spatial_dims, widths[i], widths[i + 1], strides=2, **norm) for i in range(halvings)
        )
        self.blocks = nn.ModuleList(_Residual(spatial_dims, widths[-1]) for _ in range(blocks))
        self.up = nn.ModuleList(
            Convolution(spatial_dims, widths[i + 1], widths[i], **norm) for i in reversed(range(halvings))
        )
        self.head = Convolution(spatial_dims, width, channels, kernel_size=5, conv_only=True)

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Channels of each tensor that :meth:`encode` gives."""
        stem = self.stem.out_channels
        levels = [stem * 2**level for level in range(1, self.halvings + 1)]
        return (stem, *levels, levels[-1] if levels else stem)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of the stem, of every coarser grid, and of the middle residual block."""
        features = [self.stem(image)]
        for layer in self.down:
            features.append(layer(features[-1]))
        x = features[-1]
        for block in self.blocks[: (len(self.blocks) + 1) // 2]:
            x = block(x)
        return [*features, x]

    def forward(self, image: Tensor) -> Tensor:
        """An image ``(batch, channels, *spatial)`` in the other appearance, same shape; any size."""
        # the grid is halved and doubled again: only a multiple of this comes back with its own size
        multiple = 2**self.halvings
        pads = [(-length) % multiple for length in image.shape[2:]]
        x: Tensor = F.pad(image, [side for pad in reversed(pads) for side in (0, pad)], mode="replicate")
        x = self.encode(x)[-1]
        for block in self.blocks[(len(self.blocks) + 1) // 2 :]:
            x = block(x)
        for layer in self.up:
            x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.head(x)
        for axis, length in enumerate(image.shape[2:], start=2):
            x = x.narrow(axis, 0, length)
        return x


class PatchProjection(nn.Module):
    """Feature vectors at chosen places, through one small perceptron per level.

    Args:
        in_channels: channels of each level.
        width: length of the projected vectors.

    Example:
        >>> import torch
        >>> projection = PatchProjection(in_channels=(4, 8), width=16)
        >>> features = [torch.rand(1, 4, 8, 8), torch.rand(1, 8, 4, 4)]
        >>> [tuple(v.shape) for v in projection(features, [torch.arange(10), torch.arange(5)])]
        [(1, 10, 16), (1, 5, 16)]
    """

    def __init__(self, in_channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width)) for channels in in_channels
        )

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor]) -> list[Tensor]:
        """Vectors ``(batch, n, width)`` per level.

        Args:
            features: per level ``(batch, channels, *spatial)``.
            places: per level the flat indices ``(n,)`` of the voxels.
        """
        return [
            level(feature.flatten(2)[..., index].transpose(1, 2))
            for level, feature, index in zip(self.levels, features, places, strict=True)
        ]
