from math import prod

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import SwinUNETR
from monai.networks.nets.resnet import ResNetFeatures

from monai_transfer.bundle.networks import network_definition, network_name
from monai_transfer.errors import UserError
from monai_transfer.networks import encoder_levels, names_of
from monai_transfer.weights import CATALOGUE, load_pretrained, locate, recognise
from tests.weights.published import fixture, published_tensors, quick_unet, write_published

LAYOUTS = [
    *((f"medicalnet_resnet{depth}", f"resnet{depth}", 3, 1) for depth in (10, 18, 34, 50, 101)),
    *((f"torchvision_resnet{depth}", f"resnet{depth}", 3, 1) for depth in (18, 34, 50, 101)),
    ("torchvision_resnet50", "resnet50", 2, 3),
    ("torchvision_vgg16", "vgg16", 3, 1),
    ("torchvision_vgg16", "vgg16", 2, 3),
    ("torchvision_vgg16_bn", "vgg16_bn", 3, 1),
    ("torchvision_vgg11_bn", "vgg11_bn", 2, 1),
    ("torchvision_densenet121", "densenet121", 3, 1),
    ("torchvision_densenet121", "densenet121", 2, 3),
    ("torchvision_densenet169", "densenet169", 2, 3),
]


@pytest.mark.parametrize(("layout", "backbone", "spatial_dims", "in_channels"), LAYOUTS)
def test_published_file_covers_the_whole_encoder(layout, backbone, spatial_dims, in_channels, tmp_path):
    network = quick_unet(backbone, spatial_dims=spatial_dims, in_channels=in_channels)
    report = load_pretrained(network, write_published(layout, tmp_path), minimum=1.0)
    assert report.encoder_share == 1.0
    encoder = names_of(network, ["encoder"])
    assert {record.name for record in report.missing}.isdisjoint(encoder)
    state = network.state_dict()
    file = published_tensors(layout)
    for record in report.matched:
        assert torch.equal(state[record.name], file[record.source].to(state[record.name]).expand(record.shape))
    for name in encoder:
        if not name.endswith("num_batches_tracked"):
            assert state[name].abs().min() > 0, name


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101])
def test_medicalnet_key_set_equals_monai_resnet(depth):
    """Every depth's published names and shapes are exactly those of MONAI's encoder."""
    with torch.device("meta"):
        network = ResNetFeatures(f"resnet{depth}", pretrained=False, spatial_dims=3, in_channels=1)
    ours = {f"module.{name}": list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert ours == fixture(f"medicalnet_resnet{depth}")["tensors"]


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101])
def test_medicalnet_sizes_agree_with_the_published_files(depth):
    entry = next(entry for entry in CATALOGUE if entry.name == f"medicalnet:resnet{depth}")
    size = 4e-6 * sum(prod(shape) for shape in fixture(f"medicalnet_resnet{depth}")["tensors"].values())
    assert size == pytest.approx(entry.megabytes, rel=2e-3)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("medicalnet_resnet18", "a MedicalNet ResNet-18 (3D, 1 input channel)"),
        ("torchvision_resnet50", "a torchvision ImageNet ResNet-50 (2D, 3 input channels)"),
        ("torchvision_vgg16_bn", "a torchvision ImageNet VGG-16-BN (2D, 3 input channels)"),
        ("torchvision_densenet121", "a torchvision ImageNet DenseNet-121 (2D, 3 input channels)"),
        ("monai_swin_ssl", "a self-supervised Swin encoder"),
        ("monai_swin_disruptive", "a self-supervised Swin encoder"),
    ],
)
def test_layouts_are_recognised(layout, words):
    assert recognise(published_tensors(layout)).description == words


@pytest.mark.parametrize("layout", ["monai_swin_ssl", "monai_swin_disruptive"])
def test_swin_files_cover_the_encoder(layout, tmp_path):
    network = SwinUNETR(in_channels=1, out_channels=2, feature_size=48)
    report = load_pretrained(network, write_published(layout, tmp_path), minimum=1.0)
    assert report.encoder_share == 1.0
    assert not [record for record in report.missing if record.level in encoder_levels(network)]


@pytest.mark.parametrize(
    ("layout", "name", "words"),
    [
        ("obelisk_allconvunet", "all_conv_unet", "OBELISK's all-convolutional U-Net (3D, 1 input channel, 9 classes)"),
        ("brainchop_subcortical", "meshnet30", "a MeshNet with 30 channels (3D, 1 input channel, 18 classes)"),
    ],
)
def test_small_public_networks_are_known_by_their_keys(layout, name, words, tmp_path):
    """The whole file with its own classes; all but the head with others."""
    classes_of = {"obelisk_allconvunet": 9, "brainchop_subcortical": 18}
    file = published_tensors(layout)
    found = recognise(file)
    assert (found.backbone, found.description) == (name, words)
    for classes, share in ((classes_of[layout], 1.0), (3, 1.0)):
        definition = network_definition(name, classes=classes)
        assert network_name(definition) == name
        network = ConfigParser({"network": definition}).get_parsed_content("network")
        report = load_pretrained(network, write_published(layout, tmp_path), minimum=share)
        assert report.encoder_share == share
        known = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
        assert known == set(file)
        if classes != 3:
            assert not report.missing


def test_sampled_offsets_are_refused_by_name(tmp_path):
    words = recognise(
        {"offset1": torch.zeros(1, 8, 1, 1, 3), "linear1a.weight": torch.zeros(4, 8, 1, 1, 1)}
    ).description
    assert "OBELISK-Net of sampled offsets" in words
    with pytest.raises(UserError, match="learnt offsets"):
        locate("obelisk:hybrid")


def test_one_renamed_layer_is_reported_alone(tmp_path):
    path = write_published("medicalnet_resnet18", tmp_path)
    content = torch.load(path, weights_only=True)["state_dict"]
    content["module.layer3.1.conv9.weight"] = content.pop("module.layer3.1.conv2.weight")
    torch.save({"state_dict": content}, path)
    network = quick_unet("resnet18")
    report = load_pretrained(network, path)
    encoder = names_of(network, ["encoder"])
    assert [record.name for record in report.missing if record.name in encoder] == ["encoder.layer3.1.conv2.weight"]
    assert [record.name for record in report.skipped] == ["module.layer3.1.conv9.weight"]
    kernel = network.encoder.layer3[1].conv2.weight.numel()
    total = sum(record.elements for record in report.records if record.name in encoder)
    assert report.encoder_share == pytest.approx(1 - kernel / total)


def test_wrong_file_says_what_it_looks_like_and_changes_nothing(tmp_path):
    network = quick_unet("resnet18")
    with pytest.raises(UserError, match=r"looks like a torchvision ImageNet VGG-16 .*network is a MONAI FlexibleUNet"):
        load_pretrained(network, write_published("torchvision_vgg16", tmp_path))
    assert all(tensor.abs().sum() == 0 for tensor in network.state_dict().values())


def test_another_depth_is_refused(tmp_path):
    with pytest.raises(UserError, match="looks like a MedicalNet ResNet-18"):
        load_pretrained(quick_unet("resnet34"), write_published("medicalnet_resnet18", tmp_path))


def test_deeper_file_loads_with_a_note(tmp_path):
    """ResNet-10 is a prefix of torchvision's ResNet-18: it loads, and the report says that the file is another."""
    report = load_pretrained(quick_unet("resnet10"), write_published("torchvision_resnet18", tmp_path))
    assert any("the network's encoder is resnet10" in note for note in report.notes)
