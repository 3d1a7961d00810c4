"""DenseNet encoders for MONAI's ``FlexibleUNet``, 2D and 3D, whose tensor names equal torchvision's."""

from collections import OrderedDict

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.networks.vgg import FiveLevelEncoder, initialise, refuse_fetching

BLOCKS: dict[str, tuple[int, ...]] = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}
"""Dense layers per block of each depth (Huang et al. 2017)."""

GROWTH, BOTTLENECK, STEM = 32, 4, 64


class DenseLayer(nn.Module):
    """One dense layer: normalise, 1×1 convolution to a bottleneck, normalise, 3×3 convolution, concatenate."""

    def __init__(self, in_channels: int, *, spatial_dims: int) -> None:
        super().__init__()
        convolution, width = Conv[Conv.CONV, spatial_dims], GROWTH * BOTTLENECK
        self.norm1 = Norm[Norm.BATCH, spatial_dims](in_channels)
        self.conv1 = convolution(in_channels, width, kernel_size=1, bias=False)
        self.norm2 = Norm[Norm.BATCH, spatial_dims](width)
        self.conv2 = convolution(width, GROWTH, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with 32 more channels."""
        y = self.conv1(self.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu(self.norm2(y)))], dim=1)


class Transition(nn.Module):
    """Normalise, halve the channels, halve the grid."""

    def __init__(self, in_channels: int, *, spatial_dims: int) -> None:
        super().__init__()
        self.norm = Norm[Norm.BATCH, spatial_dims](in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, in_channels // 2, kernel_size=1, bias=False)
        self.pool = Pool[Pool.AVG, spatial_dims](kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised features, which are the skip connection, and the input of the next block."""
        skip = self.relu(self.norm(x))
        return skip, self.pool(self.conv(skip))


class DenseNetEncoder(FiveLevelEncoder):
    """The convolutional part of DenseNet as five levels of features for ``FlexibleUNet``.

    For an input of shape ``(B, in_channels, *S)`` the features lie at 1/2, 1/4, 1/8, 1/16 and 1/32 of ``S``: the stem
    after its activation, the three dense blocks after the normalisation of their transition, and the normalised
    last block. Channels are 64, 256, 512, 1024 and 1024 (DenseNet-121) or 64, 256, 512, 1280 and 1664 (-169). The
    stem's pooling rounds up as published, so a multiple of 4 from 32 on is needed in each direction.

    Huang et al., "Densely connected convolutional networks", CVPR 2017.

    Args:
        model_name: ``densenet121`` or ``densenet169``.
        pretrained: kept for ``FlexibleUNet``; nothing is fetched while a network is built.
        spatial_dims: 2 or 3.
        in_channels: channels of the input.

    Raises:
        UserError: ``pretrained`` is true, or the name is unknown.

    Example:
        >>> encoder = DenseNetEncoder("densenet121", spatial_dims=2)
        >>> [tuple(feature.shape[1:]) for feature in encoder(torch.rand(1, 1, 64, 64))]
        [(64, 32, 32), (256, 16, 16), (512, 8, 8), (1024, 4, 4), (1024, 2, 2)]
    """

    def __init__(
        self, model_name: str, *, pretrained: bool = False, spatial_dims: int = 3, in_channels: int = 1
    ) -> None:
        super().__init__()
        refuse_fetching(model_name, pretrained)
        if model_name not in BLOCKS:
            raise UserError(f"There is no backbone {model_name!r}: use one of {', '.join(BLOCKS)}.")
        normalise = Norm[Norm.BATCH, spatial_dims]
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=Conv[Conv.CONV, spatial_dims](in_channels, STEM, kernel_size=7, stride=2, padding=3, bias=False),
            norm0=normalise(STEM),
            relu0=nn.ReLU(inplace=True),
            pool0=Pool[Pool.MAX, spatial_dims](kernel_size=3, stride=2, padding=1),
        )
        channels = STEM
        for block, count in enumerate(BLOCKS[model_name], start=1):
            dense = nn.Sequential()
            for layer in range(1, count + 1):
                dense.add_module(f"denselayer{layer}", DenseLayer(channels, spatial_dims=spatial_dims))
                channels += GROWTH
            layers[f"denseblock{block}"] = dense
            if block < len(BLOCKS[model_name]):
                layers[f"transition{block}"] = Transition(channels, spatial_dims=spatial_dims)
                channels //= 2
        layers["norm5"] = normalise(channels)
        self.features = nn.Sequential(layers)
        initialise(self)

    def stages(self) -> list[list[str]]:
        """Names of the layers of the stem and the four blocks, each with the transition that follows it."""
        stages = [["features.conv0", "features.norm0"]]
        stages += [[f"features.denseblock{block}", f"features.transition{block}"] for block in (1, 2, 3)]
        return [*stages, ["features.denseblock4", "features.norm5"]]

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return the five features, finest first."""
        layers = self.features
        x = layers.get_submodule("relu0")(layers.get_submodule("norm0")(layers.get_submodule("conv0")(inputs)))
        features = [x]
        x = layers.get_submodule("pool0")(x)
        for block in (1, 2, 3):
            x = layers.get_submodule(f"denseblock{block}")(x)
            skip, x = layers.get_submodule(f"transition{block}")(x)
            features.append(skip)
        x = layers.get_submodule("norm5")(layers.get_submodule("denseblock4")(x))
        return [*features, nn.functional.relu(x)]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Names under which ``FlexibleUNet`` knows these backbones."""
        return list(BLOCKS)

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the five features of each backbone."""
        return [_widths(blocks) for blocks in BLOCKS.values()]


def _widths(blocks: tuple[int, ...]) -> tuple[int, ...]:
    widths, channels = [STEM], STEM
    for layers in blocks:
        channels += layers * GROWTH
        widths.append(channels)
        channels //= 2
    return tuple(widths)


FLEXUNET_BACKBONE.register_class(DenseNetEncoder)
