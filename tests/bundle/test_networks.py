"""Names become network definitions, and definitions names."""

import subprocess
import sys

import pytest
from monai.bundle import ConfigParser
from torch import nn

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.networks import LIGHT, NETWORKS, network_definition, network_name
from monai_transfer.errors import UserError


@pytest.mark.parametrize("name", NETWORKS)
def test_a_definition_tells_its_name(name: str) -> None:
    assert network_name(network_definition(name, classes=3)) == name


@pytest.mark.parametrize(("name", "norm"), [("unet", nn.InstanceNorm3d), ("unet_bn", nn.BatchNorm3d)])
def test_the_light_networks_differ_in_their_normalisation_alone(name: str, norm: type[nn.Module]) -> None:
    network = ConfigParser({"net": network_definition(name, classes=3)}).get_parsed_content("net")
    norms = [module for module in network.modules() if "Norm" in type(module).__name__]
    assert {type(module) for module in norms} == {norm}
    assert set(LIGHT) == {"unet", "unet_bn"}


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "resnet18_light"])
def test_plain_monai_builds_what_this_package_adds(name: str) -> None:
    """Nobody has imported the package that knows the encoder: the definition says where it is."""
    definition = network_definition(name, classes=2, spatial_dims=2)
    code = f"from monai.bundle import ConfigParser; ConfigParser({{'net': {definition}}}).get_parsed_content('net')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert concerns_of({"network_def": definition}, "inference") == []


def test_what_is_no_network_of_ours_has_no_name() -> None:
    assert network_name({"_target_": "SegResNet"}) is None
    with pytest.raises(UserError, match="unet_stems, unet_mind, unet_with_structure, resnet10"):
        network_definition("unett", classes=3)
