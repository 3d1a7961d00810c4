"""VGG encoders for MONAI's ``FlexibleUNet``, 2D and 3D, whose tensor names equal torchvision's published files."""

from itertools import pairwise

import torch
from monai.networks.blocks import BaseEncoder
from monai.networks.layers.factories import Conv, Norm, Pool
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import Tensor, nn

from monai_transfer.errors import UserError

STAGES: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Convolutions per stage of each depth (Simonyan and Zisserman 2015, configurations A, B, D and E)."""

CHANNELS = (64, 128, 256, 512, 512)


class FiveLevelEncoder(nn.Module, BaseEncoder):
    """What ``FlexibleUNet`` asks of an encoder of five features, whose weights are loaded and never fetched."""

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, object]]:
        """Arguments of each backbone; new dictionaries each time, since ``FlexibleUNet`` writes into its own."""
        return [
            {"model_name": name, "pretrained": False, "spatial_dims": 3, "in_channels": 1}
            for name in cls.get_encoder_names()
        ]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of features of each backbone: five."""
        return [5] * len(cls.get_encoder_names())


class VGGEncoder(FiveLevelEncoder):
    """The convolutional part of VGG as five levels of features for ``FlexibleUNet``.

    Features are taken before each pooling, where they are richest; the full-resolution stage has no place in
    ``FlexibleUNet`` (its first skip is at half resolution) and feeds the next stage only. For an input of shape
    ``(B, in_channels, *S)`` the features have 128, 256, 512, 512 and 512 channels at 1/2, 1/4, 1/8, 1/16 and 1/32
    of ``S``; the last is the pooled fifth stage. Pooling rounds down, so every even size from 32 on works.

    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

    Args:
        model_name: ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``, each also with ``_bn``.
        pretrained: kept for ``FlexibleUNet``; nothing is fetched while a network is built.
        spatial_dims: 2 or 3.
        in_channels: channels of the input.

    Raises:
        UserError: ``pretrained`` is true, or the name is unknown.

    Example:
        >>> encoder = VGGEncoder("vgg11", spatial_dims=2)
        >>> [tuple(feature.shape[1:]) for feature in encoder(torch.rand(1, 1, 64, 64))]
        [(128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4), (512, 2, 2)]
    """

    def __init__(
        self, model_name: str, *, pretrained: bool = False, spatial_dims: int = 3, in_channels: int = 1
    ) -> None:
        super().__init__()
        refuse_fetching(model_name, pretrained)
        depth = model_name.removesuffix("_bn")
        if depth not in STAGES:
            raise UserError(f"There is no backbone {model_name!r}: use one of {', '.join(self.get_encoder_names())}.")
        normalised = model_name.endswith("_bn")
        self.features = nn.Sequential()
        channels = in_channels
        for convolutions, width in zip(STAGES[depth], CHANNELS, strict=True):
            for _ in range(convolutions):
                self._append(Conv[Conv.CONV, spatial_dims](channels, width, kernel_size=3, padding=1))
                if normalised:
                    self._append(Norm[Norm.BATCH, spatial_dims](width))
                self._append(nn.ReLU(inplace=True))
                channels = width
            self._append(Pool[Pool.MAX, spatial_dims](kernel_size=2, stride=2))
        initialise(self)

    def _append(self, module: nn.Module) -> None:
        self.features.add_module(str(len(self.features)), module)

    def stages(self) -> list[list[str]]:
        """Names of the layers of each of the five stages, without the poolings."""
        names = [f"features.{index}" for index in range(len(self.features))]
        ends = [index for index, layer in enumerate(self.features) if _pools(layer)]
        return [names[start + 1 : end] for start, end in pairwise([-1, *ends])]

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the five features, finest first."""
        x, before_pooling = inputs, []
        for layer in self.features:
            if _pools(layer):
                before_pooling.append(x)
            x = layer(x)
        return [*before_pooling[1:], x]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Names under which ``FlexibleUNet`` knows these backbones."""
        return [name + suffix for name in STAGES for suffix in ("", "_bn")]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the five features of each backbone."""
        return [(*CHANNELS[1:], CHANNELS[-1])] * len(cls.get_encoder_names())


def refuse_fetching(model_name: str, pretrained: bool) -> None:
    """Raise where a network is asked to fetch weights while it is built."""
    if pretrained:
        raise UserError(
            f"Backbone {model_name!r} fetches nothing while it is built: set pretrained to false and load its "
            f"weights with load_pretrained(network, 'imagenet:{model_name}')."
        )


def initialise(network: nn.Module) -> None:
    """Draw the starting weights as torchvision does: He for convolutions, ones and zeros for normalisation."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _pools(layer: nn.Module) -> bool:
    return isinstance(layer, torch.nn.MaxPool2d | torch.nn.MaxPool3d)


FLEXUNET_BACKBONE.register_class(VGGEncoder)
