"""U-Nets around the light ResNets that name classes, so that their encoders can be pretrained."""

from monai.networks.blocks import BaseEncoder
from monai.networks.nets import FlexibleUNet, ResNet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import Tensor

from monai_transfer.errors import UserError
from monai_transfer.networks.vgg import refuse_fetching

LIGHT_BLOCKS = {"resnet10_light": (1, 1, 1, 1), "resnet18_light": (2, 2, 2, 2)}
"""Name of a light encoder -> its blocks at each level."""

_SHALLOWEST = "resnet10_light"
_WIDTHS = (16, 32, 64, 128)
_DECODER = (64, 32, 16, 16)


class LightResNetEncoder(ResNet, BaseEncoder):
    """ResNet of a quarter of the width, without its pooling, as four levels of features for ``FlexibleUNet``.

    Names, shapes and strides are those of the light networks that name classes (``train --task diagnosis``), so what
    the one learns the other knows. For an input of shape ``(B, in_channels, *S)`` the features have 16, 32, 64 and 128
    channels at 1/2, 1/4, 1/8 and 1/16 of ``S``; the first convolution halves the grid, the first level keeps it.

    He et al., "Deep residual learning for image recognition", CVPR 2016.

    Args:
        model_name: one of :data:`LIGHT_BLOCKS`.
        pretrained: kept for ``FlexibleUNet``; nothing is fetched while a network is built.
        spatial_dims: 2 or 3.
        in_channels: channels of the input.

    Raises:
        UserError: there is no encoder of that name, or ``pretrained`` is true.

    Example:
        >>> import torch
        >>> encoder = LightResNetEncoder(spatial_dims=2)
        >>> [tuple(feature.shape[1:]) for feature in encoder(torch.rand(1, 1, 64, 64))]
        [(16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4)]
    """

    def __init__(
        self, model_name: str = _SHALLOWEST, *, pretrained: bool = False, spatial_dims: int = 3, in_channels: int = 1
    ) -> None:
        if model_name not in LIGHT_BLOCKS:
            raise UserError(f"There is no light ResNet {model_name!r}: use {' or '.join(LIGHT_BLOCKS)}.")
        refuse_fetching(model_name, pretrained)
        super().__init__(
            "basic",
            list(LIGHT_BLOCKS[model_name]),
            list(_WIDTHS),
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            no_max_pool=True,
            feed_forward=False,
            bias_downsample=False,
        )

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Return the four features, finest first."""
        x, features = self.act(self.bn1(self.conv1(x))), []
        for level in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = level(x)
            features.append(x)
        return features

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, object]]:
        """Arguments of each backbone."""
        return [{"model_name": name, "pretrained": False, "spatial_dims": 3, "in_channels": 1} for name in LIGHT_BLOCKS]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the features of each."""
        return [_WIDTHS] * len(LIGHT_BLOCKS)

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of features of each: four."""
        return [len(_WIDTHS)] * len(LIGHT_BLOCKS)

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """The names under which ``FlexibleUNet`` knows them."""
        return list(LIGHT_BLOCKS)


class LightResNetUNet(FlexibleUNet):
    """MONAI's ``FlexibleUNet`` with a :class:`LightResNetEncoder`: 1.4 (depth 10) or 2.5 million values (18) in 3D.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: classes with the background.
        dropout: share of the decoder's features dropped in training.
        backbone: one of :data:`LIGHT_BLOCKS`.

    Example:
        >>> import torch
        >>> LightResNetUNet(2, 1, 3)(torch.rand(2, 1, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, dropout: float = 0.0, backbone: str = _SHALLOWEST
    ) -> None:
        super().__init__(
            in_channels, out_channels, backbone, decoder_channels=_DECODER, spatial_dims=spatial_dims, dropout=dropout
        )


FLEXUNET_BACKBONE.register_class(LightResNetEncoder)
