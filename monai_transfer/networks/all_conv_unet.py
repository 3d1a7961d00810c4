"""The light 3D U-Net that OBELISK-Net was compared with, in the layout in which its weights are published."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (5, 14, 28, 42, 56, 70)
"""Features of each level, of the 880,000 values that the paper names."""

_SLOPE = 0.1


class AllConvUNet(nn.Module):
    """A U-Net of six levels whose strides are convolutions and whose up-sampling is linear.

    Names and shapes of its tensors are those of ``models/allconvunet_*.pth`` of
    https://github.com/mattiaspaul/OBELISK. Volumes of any size go through: each level is brought to the size of the one
    that it is joined with.

    Heinrich, Oktay and Bouteldja, *OBELISK-Net: Fewer layers to solve 3D multi-organ segmentation with sparse
    deformable convolutions*, Medical Image Analysis 2019.

    Args:
        in_channels: of the image.
        out_channels: classes with the background; as many features has the level before the head.
        dropout: share of feature maps dropped in training.

    Example:
        >>> network = AllConvUNet(1, 3)
        >>> network(torch.rand(1, 1, 40, 32, 32)).shape, sum(value.numel() for value in network.parameters()) // 1000
        (torch.Size([1, 3, 40, 32, 32]), 878)
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout3d(dropout)
        self._add("0", in_channels, WIDTHS[0])
        for level in range(1, len(WIDTHS)):
            self._add(f"{level}", WIDTHS[level - 1], WIDTHS[level], stride=2)
            self._add(f"{level}{level}", WIDTHS[level], WIDTHS[level])
        below = WIDTHS[-1]
        # from the coarsest on: the published names count the letters down
        for letter, skip in zip(("d", "c", "b", ""), WIDTHS[4:0:-1], strict=True):
            self._add(f"6{letter}U", below + skip, skip)
            below = skip
        self._add("7U", below + WIDTHS[0], out_channels)
        self.conv77U = nn.Conv3d(out_channels, out_channels, 3, padding=1)

    def _add(self, name: str, inputs: int, outputs: int, stride: int = 1) -> None:
        self.add_module(f"conv{name}", nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1))
        self.add_module(f"batch{name}", nn.BatchNorm3d(outputs))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        x = self.get_submodule(f"batch{name}")(self.get_submodule(f"conv{name}")(x))
        dropped: Tensor = self.dropout(F.leaky_relu(x, _SLOPE))
        return dropped

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, out_channels, *spatial)`` of images ``(batch, in_channels, *spatial)``."""
        skips = [self._layer("0", x)]
        for level in range(1, len(WIDTHS)):
            skips.append(self._layer(f"{level}{level}", self._layer(f"{level}", skips[-1])))
        x = skips.pop()
        for name in ("6dU", "6cU", "6bU", "6U", "7U"):
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
            x = self._layer(name, torch.cat([x, skip], dim=1))
        logits: Tensor = self.conv77U(x)
        return logits
