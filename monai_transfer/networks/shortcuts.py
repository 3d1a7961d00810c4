"""MONAI's parameter-free ResNet shortcut, as a module that tracing and exporting can follow.

A block of shortcut type A (depths 18 and 34) skips voxels and appends channels of zeros. MONAI makes the zeros by
``torch.zeros`` of the batch at hand and cuts them off the graph with ``.data``: a trace keeps the batch that it saw,
and ``torch.export`` stops. The same sum without either follows any batch.
"""

import copy
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from monai_transfer.networks.structure import StructureUNet


class ZeroPaddedShortcut(nn.Module):
    """Every ``stride``-th voxel, and zeros for the channels that the block adds.

    Args:
        planes: channels that it returns.
        stride: voxels per step along each spatial axis.

    Shape:
        features (B, C, *spatial) -> (B, planes, *(spatial / stride, rounded up)).

    Example:
        >>> ZeroPaddedShortcut(planes=4, stride=2)(torch.ones(1, 3, 5, 5, 5)).shape
        torch.Size([1, 4, 3, 3, 3])
    """

    def __init__(self, planes: int, stride: int) -> None:
        super().__init__()
        self.planes, self.stride = planes, stride

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Skip voxels, append zeros."""
        dims = features.ndim - 2
        for axis in range(2, 2 + dims):
            features = features[(slice(None),) * axis + (slice(None, None, self.stride),)]
        return F.pad(features, [0, 0] * dims + [0, self.planes - features.shape[1]])


def exportable(network: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation mode, without what stops an exporter: shortcuts, and changes of precision.

    Weights, names and results are those of ``network``, which stays as it is.
    """
    network = copy.deepcopy(network).eval()
    for block in network.modules():
        shortcut: Any = getattr(block, "downsample", None)
        if isinstance(shortcut, partial) and {"planes", "stride"} <= shortcut.keywords.keys():
            planes, stride = (cast(int, shortcut.keywords[name]) for name in ("planes", "stride"))
            block.downsample = ZeroPaddedShortcut(planes, stride)
        if isinstance(block, StructureUNet):
            block.structure.submodule = nn.Sequential(*block.structure.submodule)
    return network
