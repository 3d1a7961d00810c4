"""MeshNet: dilated convolutions at full resolution, in the layout in which brainchop publishes its weights."""

from collections.abc import Sequence

from torch import Tensor, nn

DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)
"""Of brainchop's networks of ten layers."""


class MeshNet(nn.Module):
    """A chain of dilated convolutions of one width, with a 1×1×1 convolution as its head.

    It keeps the full resolution throughout, so a window needs memory for ``channels`` volumes and few weights. Names
    and shapes of its tensors are those of the files of https://github.com/neuroneural/brainchop-models.

    Fedorov et al., *End-to-end learning of brain tissue segmentation from imperfect labeling*, IJCNN 2017.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: classes with the background.
        channels: features of every layer.
        dilations: of each layer but the head.
        dropout: share of features dropped before the head in training.

    Example:
        >>> import torch
        >>> network = MeshNet(2, 1, 3, channels=4, dilations=(1, 2, 1))
        >>> network(torch.rand(1, 1, 16, 16)).shape, list(network.state_dict())[-2:]
        (torch.Size([1, 3, 16, 16]), ['model.6.weight', 'model.6.bias'])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: int = 21,
        *,
        dilations: Sequence[int] = DILATIONS,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        for dilation in dilations:
            layers += [convolution(in_channels, channels, 3, padding=dilation, dilation=dilation), nn.ELU()]
            in_channels = channels
        self.dropout = nn.Dropout(dropout)
        self.model = nn.Sequential(*layers, convolution(channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, out_channels, *spatial)`` of images ``(batch, in_channels, *spatial)``."""
        *layers, head = self.model
        for layer in layers:
            x = layer(x)
        logits: Tensor = head(self.dropout(x))
        return logits
