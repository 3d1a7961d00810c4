"""The U-Net whose encoder is the light network that names classes."""

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_transfer.bundle.diagnosis_networks import LIGHT_DIAGNOSIS, diagnosis_network
from monai_transfer.bundle.networks import LIGHT_RESNET, network_definition
from monai_transfer.errors import UserError
from monai_transfer.networks import LightResNetEncoder, encoder_levels, names_of, network_levels, tap


def _unet(dims: int) -> nn.Module:
    definition = network_definition(LIGHT_RESNET, classes=3, spatial_dims=dims)
    built: nn.Module = ConfigParser({"net": definition}).get_parsed_content("net")
    return built.eval()


def _classifier(dims: int) -> nn.Module:
    definition = diagnosis_network(LIGHT_DIAGNOSIS, classes=2, spatial_dims=dims)
    built: nn.Module = ConfigParser({"net": definition}).get_parsed_content("net")
    return built.eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_what_one_learns_the_other_knows(dims: int) -> None:
    """The same names, shapes and strides: with the same weights, the same features."""
    unet, classifier = _unet(dims), _classifier(dims)
    inner = {name.removeprefix("encoder."): unet.state_dict()[name] for name in names_of(unet, ["encoder"])}
    missing = classifier.load_state_dict(inner, strict=False)
    assert sorted(missing.missing_keys) == ["fc.bias", "fc.weight"]
    assert not missing.unexpected_keys
    image, levels = torch.rand(1, 1, *[32] * dims), ("layer1", "layer2", "layer3", "layer4")
    with torch.no_grad(), tap(classifier, levels) as features:
        classifier(image)
        for ours, theirs in zip(unet.encoder(image), features, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_levels_and_sizes() -> None:
    unet = _unet(3)
    assert list(network_levels(unet)) == ["stem", "level1", "level2", "level3", "level4", "decoder", "head"]
    assert encoder_levels(unet) == ("stem", "level1", "level2", "level3", "level4")
    with torch.no_grad():
        assert unet(torch.rand(1, 1, 16, 32, 48)).shape == (1, 3, 16, 32, 48)


def test_nothing_is_fetched() -> None:
    with pytest.raises(UserError, match="fetches nothing"):
        LightResNetEncoder(pretrained=True)
