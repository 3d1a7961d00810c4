"""Build the network that weights are to be tried on, by the name of its backbone."""

from monai.networks.nets import FlexibleUNet, SwinUNETR
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import nn

import monai_transfer.networks  # noqa: F401  registers the backbones
from monai_transfer.errors import UserError

SWIN = "swin_unetr"


def network_named(name: str, *, spatial_dims: int = 3, in_channels: int = 1, classes: int = 2) -> nn.Module:
    """Build a ``FlexibleUNet`` with the backbone ``name``, or ``swin_unetr`` with 48 features, with fresh weights.

    Raises:
        UserError: there is no such backbone, or not in so many dimensions.
    """
    if spatial_dims not in (2, 3):
        raise UserError(f"Networks have 2 or 3 spatial dimensions, not {spatial_dims}.")
    if name not in (SWIN, *FLEXUNET_BACKBONE.register_dict):
        known = ", ".join([*FLEXUNET_BACKBONE.register_dict, SWIN])
        raise UserError(f"There is no network {name!r}: use one of {known}.")
    network: nn.Module
    if name == SWIN:
        network = SwinUNETR(in_channels=in_channels, out_channels=classes, feature_size=48, spatial_dims=spatial_dims)
    else:
        network = FlexibleUNet(in_channels, classes, name, pretrained=False, spatial_dims=spatial_dims)
    return network
