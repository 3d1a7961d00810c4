"""U-Nets that see structure alone, and beside the image."""

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import UNet
from torch import nn

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.networks import MIND, WITH_MIND, network_definition, network_name
from monai_transfer.finetuning import start_from
from monai_transfer.networks import (
    ImageAndMINDUNet,
    MINDUNet,
    feature_channels,
    mind_descriptor,
    mixed_precision,
    names_of,
    network_levels,
)

UNET = {"channels": [4, 8], "strides": [2]}


@pytest.fixture(params=[2, 3])
def network(request: pytest.FixtureRequest) -> MINDUNet:
    torch.manual_seed(0)
    return MINDUNet(request.param, in_channels=1, out_channels=3, **UNET).eval()


def images(network: MINDUNet, count: int = 2) -> torch.Tensor:
    dims = network.dimensions
    return torch.rand(count, 1, *(16,) * dims, generator=torch.Generator().manual_seed(dims))


@torch.no_grad()
def test_brightness_contrast_and_inversion_change_nothing(network: MINDUNet) -> None:
    image = images(network)
    for changed in (5 + image, 40 * image, 1 - image):
        torch.testing.assert_close(network(changed), network(image), atol=2e-3, rtol=2e-3)
    assert not torch.allclose(network(image.flip(2)), network(image), atol=2e-3)


@torch.no_grad()
def test_an_image_does_not_see_those_beside_it_in_a_batch(network: MINDUNet) -> None:
    image = images(network)
    image[1] *= 1000
    torch.testing.assert_close(network(image)[:1], network(image[:1]))


def test_it_learns_through_the_descriptor_in_bfloat16(network: MINDUNet) -> None:
    image = images(network).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image)
    nn.functional.cross_entropy(logits.float(), logits.argmin(1)).backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().max() > 0


def test_the_features_of_a_channel_follow_each_other() -> None:
    pair = torch.rand(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    apart = [mind_descriptor(pair[:, channel : channel + 1]) for channel in range(2)]
    # one clamp for all channels of an image: away from flat regions it does nothing
    torch.testing.assert_close(mind_descriptor(pair), torch.cat(apart, 1))


def test_it_is_a_network_like_the_others(network: MINDUNet) -> None:
    definition = network_definition(MIND, classes=3, channels=2)
    assert network_name(definition) == MIND
    assert concerns_of({"network_def": definition}, "inference") == []
    assert feature_channels(network, images(network)) == (4, 8)
    assert network_levels(network)


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_beside_the_image_it_begins_as_the_network_of_the_image(dims: int) -> None:
    torch.manual_seed(1)
    plain = UNet(dims, 2, 3, **UNET).eval()
    network = ImageAndMINDUNet(dims, 2, 3, **UNET).eval()
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["model.0.conv.structure"], [])
    image = torch.rand(2, 2, *(16,) * dims)
    torch.testing.assert_close(network(image), plain(image))
    network.model[0].conv.structure += 0.1
    assert not torch.allclose(network(image), plain(image), atol=1e-3)


def test_beside_the_image_it_learns_from_both() -> None:
    torch.manual_seed(1)
    network = ImageAndMINDUNet(3, 1, 3, **UNET)
    image = torch.rand(2, 1, 16, 16, 16)
    with mixed_precision(torch.device("cpu")):
        logits = network(image)
    nn.functional.cross_entropy(logits.float(), logits.argmin(1)).backward()
    first = network.model[0].conv
    assert first.structure.shape == (4, 6, 3, 3, 3)
    for kernel in (first.weight, first.structure):
        assert kernel.grad is not None
        assert kernel.grad.abs().max() > 0


def test_weights_of_shapes_begin_the_network_of_both() -> None:
    definition = network_definition(WITH_MIND, classes=3)
    assert network_name(definition) == WITH_MIND
    assert concerns_of({"network_def": definition}, "inference") == []
    network = ConfigParser({"network": definition}).get_parsed_content("network")
    report = start_from(network, "shapes:unet")
    assert report is not None
    assert "model.0.conv.structure" in names_of(network, ["stem"])
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    assert network.model[0].conv.structure.abs().max() == 0
