"""The normalisation layers of a network."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Batch normalisation layers that keep running statistics, in the network's order."""
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in layers if layer.track_running_stats and layer.running_mean is not None]


def affine_norms(network: nn.Module) -> list[nn.Module]:
    """Normalisation layers (batch, instance, group, layer) with trainable scale and shift, in the network's order."""
    kinds = (_NormBase, nn.GroupNorm, nn.LayerNorm)
    return [layer for layer in network.modules() if isinstance(layer, kinds) and layer.weight is not None]


def stateful_norms(network: nn.Module) -> list[_NormBase]:
    """Batch and instance normalisation layers with parameters or statistics, in the network's order."""
    layers = [layer for layer in network.modules() if isinstance(layer, _NormBase)]
    return [layer for layer in layers if layer.weight is not None or layer.running_mean is not None]
