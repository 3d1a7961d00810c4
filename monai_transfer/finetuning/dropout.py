"""Dropout in the decoder of a network that was built without."""

from collections import OrderedDict

from monai.networks.blocks import ADN
from monai.networks.layers.factories import Dropout
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.networks.levels import DECODER, bare, network_levels


def set_decoder_dropout(network: nn.Module, rate: float) -> int:
    """Drop whole feature maps after each normalisation in the decoder, with probability ``rate`` while training.

    Dropout has no parameters, so checkpoints load as before, and a bundle's ``network_def`` can stay as it is: in
    evaluation nothing changes. Works for networks whose decoder is built of MONAI's ``Convolution`` blocks, such as
    ``FlexibleUNet`` and ``UNet``. A rate of 0 takes dropout out again.

    Args:
        network: the network.
        rate: probability, in [0, 1).

    Returns:
        Number of blocks that now have it.

    Raises:
        UserError: the rate is out of range or the decoder has no such block.
    """
    if not 0 <= rate < 1:
        raise UserError(f"The dropout rate must be in [0, 1), not {rate}.")
    network = bare(network)
    names = network_levels(network).get(DECODER, ())
    blocks = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, ADN)
        and hasattr(module, "A")
        and any(tensor.startswith(f"{name.rpartition('.')[0]}.") for tensor in names)
    ]
    if not blocks:
        raise UserError(f"The decoder of {type(network).__name__} has no block that takes dropout.")
    for name, block in blocks:
        _insert(block, rate, _spatial_dims(network, name))
    return len(blocks)


def _spatial_dims(network: nn.Module, name: str) -> int:
    weight = network.get_parameter(f"{name.rpartition('.')[0]}.conv.weight")
    return weight.ndim - 2


def _insert(block: ADN, rate: float, spatial_dims: int) -> None:
    """Rebuild ``block`` as normalisation, dropout, activation, the order of MONAI's default ``NDA``."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in block.named_children():
        if name == "A" and rate > 0:
            layers["D"] = Dropout[Dropout.DROPOUT, spatial_dims](rate)
        if name != "D":
            layers[name] = layer
    for name, _ in list(block.named_children()):
        delattr(block, name)
    for name, layer in layers.items():
        block.add_module(name, layer)
