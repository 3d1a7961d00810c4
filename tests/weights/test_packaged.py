"""Weights that come with the package: the files that the catalogue describes, and the networks that they fit."""

import hashlib
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_transfer.bundle.diagnosis_networks import diagnosis_network
from monai_transfer.bundle.networks import network_definition
from monai_transfer.weights import load_pretrained, locate, recognise
from monai_transfer.weights.catalogue import CATALOGUE, Published
from monai_transfer.workflows.diagnosis import read_diagnosis_start
from monai_transfer.workflows.starting_point import read_starting_point

MADE = {
    "shapes:unet": ("(both, 2600 steps", 10.6e6),
    "shapes:resnet10": ("(both), 1200 steps", 2.8e6),
    "shapes:resnet18": ("(both), 600 steps", 5.2e6),
}
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


@pytest.mark.parametrize("depth", [10, 18])
def test_the_encoder_of_a_resnet_names_classes_too(depth: int) -> None:
    start = read_diagnosis_start(f"shapes:resnet{depth}")
    definition = diagnosis_network(str(start.network), classes=2, spatial_dims=3)
    network = ConfigParser({"net": definition}).get_parsed_content("net")
    report = load_pretrained(network, start.spec)
    assert report.encoder_share == 1
    # all of the file's encoder, and not the half of a deeper one
    assert not [record.name for record in report.skipped if "encoder" in record.name]


@pytest.mark.parametrize("depth", [10, 18])
def test_a_file_of_a_light_resnet_is_known_as_such(tmp_path: Path, depth: int) -> None:
    """Whether it segments or names classes, and by whatever name the file goes."""
    file = tmp_path / "mine.safetensors"
    file.write_bytes(locate(f"shapes:resnet{depth}").read_bytes())
    name = f"resnet{depth}_light"
    assert read_starting_point(str(file)).network == name
    definition = diagnosis_network(name, classes=2, spatial_dims=3)
    network = ConfigParser({"net": definition}).get_parsed_content("net")
    assert recognise(network.state_dict()).description == f"a light ResNet-{depth} (3D, 1 input channel)"
