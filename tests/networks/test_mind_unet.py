"""U-Nets that see structure alone."""

import pytest
import torch
from torch import nn

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.networks import MIND, network_definition, network_name
from monai_transfer.networks import MINDUNet, feature_channels, mind_descriptor, network_levels

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
