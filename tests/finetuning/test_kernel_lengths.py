import copy

import pytest
import torch
from monai.networks.nets import DenseNet121, FlexibleUNet, UNet
from torch import nn

from monai_transfer.finetuning import freeze, kernel_lengths, restore_lengths
from monai_transfer.networks import StructureUNet


def grown(network: nn.Module, factor: float = 3.0) -> nn.Module:
    """The network as a long training leaves it: every kernel longer."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return network


def instance_unet() -> UNet:
    return UNet(3, 1, 2, (4, 8, 8), (2, 2), norm="instance")


def unet_with_structure() -> UNet:
    network = StructureUNet(3, 1, 2, (4, 8, 8), strides=(2, 2))
    nn.init.normal_(network.model[0].conv.weight, std=0.1)
    return network


NETWORKS = {
    "UNet, instance": instance_unet,
    "UNet, batch": lambda: UNet(3, 1, 2, (4, 8, 8), (2, 2), norm="batch"),
    "UNet, with structure": unet_with_structure,
    "UNet, residual": lambda: UNet(3, 1, 2, (4, 8, 8), (2, 2), num_res_units=2),
    "ResNet-18": lambda: FlexibleUNet(1, 2, "resnet18", spatial_dims=2),
    "DenseNet-121": lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_the_output_stays_the_same(kind, training):
    """With the batch's statistics and with running ones."""
    torch.manual_seed(0)
    fresh = NETWORKS[kind]()
    network = grown(copy.deepcopy(fresh), 1.5)
    for layer in network.modules():
        if hasattr(layer, "eps"):
            layer.eps = 1e-12  # the small number in a normalisation's root is not scaled
    size = (2, 1, 32, 32, 32) if kind.startswith("UNet") else (2, 1, 64, 64)
    image = torch.randn(size)
    network(image)  # running statistics of its own
    network.train(training)
    with torch.no_grad():
        expected = copy.deepcopy(network)(image)
        factors = restore_lengths(network, kernel_lengths(fresh))
        assert len(factors) > 2
        assert all(factor == pytest.approx(1 / 1.5, rel=1e-4) for factor in factors.values())
        assert torch.allclose(network(image), expected, atol=2e-3 * float(expected.abs().max()))
    assert kernel_lengths(network) == pytest.approx(kernel_lengths(fresh), rel=1e-4)


def test_a_restored_kernel_turns_as_fast_as_a_fresh_one():
    """One step of Adam turns it by the same angle; the long one by a third of that."""

    def angle(network: nn.Module) -> float:
        before = network[0].weight.detach().clone().flatten()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        network(image).square().mul(target).mean().backward()
        optimizer.step()
        return float(torch.arccos(torch.cosine_similarity(before, network[0].weight.detach().flatten(), dim=0)))

    generator = torch.Generator().manual_seed(0)
    image, target = (torch.randn(2, count, 8, 8, generator=generator, dtype=torch.float64) for count in (1, 4))
    fresh = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.InstanceNorm2d(4, eps=0.0)).double()
    long = grown(copy.deepcopy(fresh))
    restored = copy.deepcopy(long)
    restore_lengths(restored, kernel_lengths(fresh))
    expected = angle(fresh)
    assert angle(restored) == pytest.approx(expected, rel=1e-4)
    assert angle(long) == pytest.approx(expected / 3, rel=0.01)


def test_what_is_frozen_or_short_or_free_stays():
    fresh = instance_unet()
    network = grown(copy.deepcopy(fresh))
    with torch.no_grad():
        network.model[1].submodule[0].conv.weight.mul_(0.1)
    freeze(network, ["stem"])
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    factors = restore_lengths(network, kernel_lengths(fresh))
    unchanged = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
    # the stem is frozen, level 1 is shorter than a fresh one, no normalisation follows the head
    assert {"model.0.conv.weight", "model.1.submodule.0.conv.weight", "model.2.conv.weight"} <= unchanged
    assert set(factors) == {"model.1.submodule.1.submodule.conv", "model.1.submodule.2.conv"}
