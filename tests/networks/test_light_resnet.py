"""The U-Nets whose encoders are the light networks that name classes."""

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_transfer.bundle.diagnosis_networks import LIGHT_DIAGNOSIS, diagnosis_network
from monai_transfer.bundle.networks import LIGHT_RESNETS, network_definition, network_name
from monai_transfer.errors import UserError
from monai_transfer.networks import LightResNetEncoder, LightResNetUNet, encoder_levels, names_of, network_levels, tap
from monai_transfer.networks.light_resnet import LIGHT_BLOCKS


def _unet(name: str, dims: int) -> nn.Module:
    definition = network_definition(name, classes=3, spatial_dims=dims)
    built: nn.Module = ConfigParser({"net": definition}).get_parsed_content("net")
    return built.eval()


def _classifier(name: str, dims: int) -> nn.Module:
    definition = diagnosis_network(name, classes=2, spatial_dims=dims)
    built: nn.Module = ConfigParser({"net": definition}).get_parsed_content("net")
    return built.eval()


@pytest.mark.parametrize(("name", "dims"), [(name, dims) for name in LIGHT_RESNETS for dims in (2, 3)])
def test_what_one_learns_the_other_knows(name: str, dims: int) -> None:
    """The same names, shapes and strides: with the same weights, the same features."""
    unet, classifier = _unet(name, dims), _classifier(name, dims)
    inner = {name.removeprefix("encoder."): unet.state_dict()[name] for name in names_of(unet, ["encoder"])}
    missing = classifier.load_state_dict(inner, strict=False)
    assert sorted(missing.missing_keys) == ["fc.bias", "fc.weight"]
    assert not missing.unexpected_keys
    image, levels = torch.rand(1, 1, *[32] * dims), ("layer1", "layer2", "layer3", "layer4")
    with torch.no_grad(), tap(classifier, levels) as features:
        classifier(image)
        for ours, theirs in zip(unet.encoder(image), features, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", LIGHT_RESNETS)
def test_levels_and_sizes(name: str) -> None:
    unet = _unet(name, 3)
    assert list(network_levels(unet)) == ["stem", "level1", "level2", "level3", "level4", "decoder", "head"]
    assert encoder_levels(unet) == ("stem", "level1", "level2", "level3", "level4")
    with torch.no_grad():
        assert unet(torch.rand(1, 1, 16, 32, 48)).shape == (1, 3, 16, 32, 48)


def test_the_shallow_one_is_the_usual_one() -> None:
    """Bundles that were made before there was a choice name none."""
    assert diagnosis_network(LIGHT_DIAGNOSIS, classes=2) == diagnosis_network("resnet10_light", classes=2)
    usual, named = LightResNetUNet(2, 1, 3), LightResNetUNet(2, 1, 3, backbone="resnet10_light")
    assert usual.state_dict().keys() == named.state_dict().keys()
    assert network_name({"_target_": "monai_transfer.networks.LightResNetUNet"}) == "resnet10_light"


def test_every_depth_has_a_name() -> None:
    assert list(LIGHT_BLOCKS) == list(LIGHT_RESNETS) == LightResNetEncoder.get_encoder_names()
    with pytest.raises(UserError, match="use resnet10_light or resnet18_light"):
        LightResNetEncoder("resnet34_light")


def test_nothing_is_fetched() -> None:
    with pytest.raises(UserError, match="fetches nothing"):
        LightResNetEncoder(pretrained=True)
