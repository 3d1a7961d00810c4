"""Make weights files with the names and shapes that were published, small on disk."""

import json
from math import prod
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import FlexibleUNet

import monai_transfer.networks  # noqa: F401  registers the backbones

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def published_tensors(name: str) -> dict[str, torch.Tensor]:
    """One value per tensor, told apart by the value: a stride of zero keeps the file small."""
    tensors = {}
    for index, (tensor, shape) in enumerate(fixture(name)["tensors"].items(), start=1):
        if tensor.endswith("num_batches_tracked"):
            tensors[tensor] = torch.tensor(index)
        else:
            tensors[tensor] = torch.full((1,), index / 1000.0).expand(shape) if prod(shape) else torch.zeros(shape)
    return tensors


def write_published(name: str, folder: Path, **changed: torch.Tensor) -> Path:
    wrapper = fixture(name)["wrapper"]
    tensors = {**published_tensors(name), **changed}
    path = folder / f"{name}.pth"
    torch.save({wrapper: tensors} if wrapper else tensors, path)
    return path


def quick_unet(backbone: str, *, spatial_dims: int = 3, in_channels: int = 1, classes: int = 3) -> FlexibleUNet:
    """Build a network without drawing its weights, which takes seconds for deep encoders."""
    with torch.device("meta"):
        network = FlexibleUNet(
            in_channels, classes, backbone, spatial_dims=spatial_dims, decoder_channels=(16, 8, 8, 8, 8)
        )
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    return network
