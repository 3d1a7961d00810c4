"""Mixed precision with the channels last gives what mixed precision gives, in value and gradient."""

import copy

import pytest
import torch
from torch import nn

from monai_transfer.networks import ChannelsLast, mixed_precision

CPU = torch.device("cpu")


def _network(norm: str) -> nn.Module:
    torch.manual_seed(0)
    normalise = nn.InstanceNorm3d(8, affine=True) if norm == "instance" else nn.BatchNorm3d(8)
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, stride=2, padding=1),
        normalise,
        nn.PReLU(),
        nn.ConvTranspose3d(8, 4, 3, stride=2, padding=1, output_padding=1, bias=False),
        nn.PReLU(4),
        nn.Conv3d(4, 3, 1),
    )


def _pass(network: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = network(image)
    logits.float().square().mean().backward()
    return logits.detach().float(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_it_gives_what_autocast_gives(norm: str) -> None:
    network, image = _network(norm), torch.rand(2, 1, 12, 10, 8)
    twin, exact = copy.deepcopy(network), copy.deepcopy(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, gradient = _pass(network, image)
    with mixed_precision(CPU):
        found, twins = _pass(twin, image)
    in_float32, exactly = _pass(exact, image)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    # no farther from float32 than autocast alone, but for the chance of rounding
    assert (found - in_float32).norm() <= 1.2 * (expected - in_float32).norm()
    assert (twins - exactly).norm() <= 1.2 * (gradient - exactly).norm()
    assert twin[0].weight.dtype == torch.float32
    assert twin[0].weight.is_contiguous()
    assert twin[0].weight.grad.is_contiguous()


def test_the_order_lasts_through_the_network() -> None:
    seen: list[bool] = []
    network = _network("instance")
    for layer in network[:-1]:  # type: ignore[index]
        layer.register_forward_hook(
            lambda _layer, _inputs, output: seen.append(output.is_contiguous(memory_format=torch.channels_last_3d))
        )
    with mixed_precision(CPU):
        network(torch.rand(2, 1, 12, 10, 8))
    assert seen == [True] * 5


@pytest.mark.parametrize("layer", [nn.InstanceNorm3d(4), nn.InstanceNorm3d(4, track_running_stats=True), nn.PReLU()])
def test_layers_alone(layer: nn.Module) -> None:
    features = torch.randn(3, 4, 5, 6, 7)
    twin = copy.deepcopy(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(features)
        with ChannelsLast():
            found = twin(features)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_single_channel_is_computed_beside_one_of_zeros(stride: int) -> None:
    torch.manual_seed(0)
    layer, image = nn.Conv3d(1, 6, 3, stride=stride, padding=1), torch.rand(2, 1, 9, 8, 7, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(image)
        with ChannelsLast():
            found = layer(image)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)
    of = [image, layer.weight, layer.bias]
    ours, theirs = (torch.autograd.grad(features.float().square().mean(), of) for features in (found, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_bias_of_a_transposed_convolution_learns_as_before(frozen: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.ConvTranspose3d(3, 5, 3, stride=2), nn.ReLU(inplace=True))
    network[0].bias.requires_grad_(not frozen)
    image, parameters = torch.rand(2, 3, 6, 5, 4), [value for value in network.parameters() if value.requires_grad]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = network(image)
        with ChannelsLast():
            found = network(image)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)
    ours, theirs = (torch.autograd.grad(features.float().square().mean(), parameters) for features in (found, expected))
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other, atol=0.01, rtol=0.01)


def test_without_autocast_nothing_changes() -> None:
    layer, image = nn.Conv3d(1, 2, 3), torch.rand(1, 1, 5, 5, 5)
    with ChannelsLast():
        assert torch.equal(layer(image), nn.functional.conv3d(image, layer.weight, layer.bias))
    with mixed_precision(CPU), torch.autocast("cpu", enabled=False):
        assert layer(image).dtype == torch.float32
    with mixed_precision(CPU):
        assert nn.Conv2d(1, 2, 3)(torch.rand(1, 1, 5, 5)).dtype == torch.bfloat16


def test_a_layer_that_is_called_by_names_alone_is_computed_too() -> None:
    image, weight = torch.rand(1, 2, 6, 6, 6), torch.rand(4, 2, 3, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = nn.functional.conv3d(input=image, weight=weight)
    with mixed_precision(CPU):
        torch.testing.assert_close(nn.functional.conv3d(input=image, weight=weight), expected)


@pytest.mark.parametrize(
    ("shape", "stride"),
    [((2, 2, 2), 1), ((2, 3, 2), 1), ((2, 4, 6), 1), ((4, 2, 1), 2), ((8, 1), 2), ((1, 1), 2), ((2, 2), 1)],
)
def test_flat_layers_have_the_gradient_of_float32_whatever_lay_in_memory(shape: tuple[int, ...], stride: int) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d if len(shape) == 3 else torch.nn.Conv2d
    layer, image = convolution(16, 16, 3, stride, 1), torch.randn(2, 16, *shape)
    expected = torch.autograd.grad(layer(image).square().mean(), layer.weight)[0]
    # processors without AMX read what was there before: leave something that would be seen
    left = [torch.full((2**power,), 1e30) for power in range(4, 22) for _ in range(4)]
    del left
    with mixed_precision(torch.device("cpu")):
        found = layer(image)
    gradient = torch.autograd.grad(found.float().square().mean(), layer.weight)[0]
    torch.testing.assert_close(gradient, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))
