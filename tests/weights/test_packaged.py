"""Weights that come with the package: the files that the catalogue describes, and the networks that they fit."""

import hashlib
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_transfer.bundle.diagnosis_networks import LIGHT_DIAGNOSIS, diagnosis_network
from monai_transfer.bundle.networks import network_definition
from monai_transfer.weights import load_pretrained, locate, recognise
from monai_transfer.weights.catalogue import CATALOGUE, Published
from monai_transfer.workflows.diagnosis import read_diagnosis_start
from monai_transfer.workflows.starting_point import read_starting_point

MADE = {"shapes:unet": ("(both, 2600 steps", 10.6e6), "shapes:resnet10": ("(both), 1200 steps", 2.8e6)}
"""What the header of each says, and bytes that it is smaller than."""


@pytest.mark.parametrize("entry", [entry for entry in CATALOGUE if entry.packaged], ids=lambda entry: entry.name)
def test_they_load_and_say_what_they_were_pretrained_on(entry: Published) -> None:
    note, size = MADE[entry.name]
    network = ConfigParser({"net": network_definition(entry.network, classes=3)}).get_parsed_content("net")
    report = load_pretrained(network, entry.name)
    assert report.encoder_share == 1
    assert report.notes[0].startswith(f"Pretrained on random shapes {note}")
    file = locate(entry.name)
    assert file.stat().st_size < size
    assert hashlib.sha256(file.read_bytes()).hexdigest() == entry.sha256


def test_the_encoder_of_a_resnet_names_classes_too() -> None:
    start = read_diagnosis_start("shapes:resnet10")
    definition = diagnosis_network(start.network or LIGHT_DIAGNOSIS, classes=2, spatial_dims=3)
    network = ConfigParser({"net": definition}).get_parsed_content("net")
    assert load_pretrained(network, "shapes:resnet10").encoder_share == 1


def test_a_file_of_the_light_resnet_is_known_as_such(tmp_path: Path) -> None:
    """Whether it segments or names classes, and by whatever name the file goes."""
    file = tmp_path / "mine.safetensors"
    file.write_bytes(locate("shapes:resnet10").read_bytes())
    assert read_starting_point(str(file)).network == "resnet10_light"
    definition = diagnosis_network(LIGHT_DIAGNOSIS, classes=2, spatial_dims=3)
    network = ConfigParser({"net": definition}).get_parsed_content("net")
    assert recognise(network.state_dict()).description == "a light ResNet-10 (3D, 1 input channel)"
