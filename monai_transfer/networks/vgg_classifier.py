"""A VGG that names the class of an image: the encoder, global pooling, one linear layer."""

from torch import Tensor, nn

from monai_transfer.networks.vgg import VGGEncoder


class VGGClassifier(nn.Module):
    """VGG with global average pooling in place of the 120 million weights of its published head.

    Pooling makes it take images of any size and dimension, and leaves a map that Grad-CAM can point into (Lin et al.,
    "Network in network", ICLR 2014). MONAI has no VGG, so a bundle with this network needs this package.

    Args:
        backbone: ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``, each also with ``_bn``.
        num_classes: outputs.
        in_channels: channels of the input.
        spatial_dims: 2 or 3.
        dropout: share of pooled features dropped in training.

    Example:
        >>> import torch
        >>> VGGClassifier("vgg11", num_classes=3)(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, backbone: str, *, num_classes: int, in_channels: int = 1, spatial_dims: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = VGGEncoder(backbone, spatial_dims=spatial_dims, in_channels=in_channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(512, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(batch, num_classes)`` of images ``(batch, in_channels, *spatial)``."""
        pooled = self.encoder(image)[-1].flatten(2).mean(2)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
