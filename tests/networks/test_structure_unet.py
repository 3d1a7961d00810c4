"""U-Nets that see their images and, beside them, how each place differs from its neighbours."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import UNet
from torch import nn

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.networks import WITH_STRUCTURE, network_definition, network_name
from monai_transfer.finetuning import start_from
from monai_transfer.networks import StructureUNet, exportable, feature_channels, mixed_precision, network_levels
from monai_transfer.weights import load_pretrained, recognise

UNET = {"channels": [4, 8], "strides": [2]}
CONSTANTS = [f"structure.submodule.{layer}.weight" for layer in ("0", "2", "3.submodule.0")]


def images(dims: int, channels: int = 1, size: int = 16) -> torch.Tensor:
    return torch.randn(2, channels, *(size,) * dims, generator=torch.Generator().manual_seed(dims))


def structure(image: torch.Tensor) -> torch.Tensor:
    network = StructureUNet(image.ndim - 2, image.shape[1], 3, **UNET)
    return network.structure(image)[:, image.shape[1] :]


@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (3, 1), (3, 2)])
def test_structure_is_that_of_pytorchs_own_layers(dims: int, channels: int) -> None:
    torch.manual_seed(0)
    network = StructureUNet(dims, channels, 3, **UNET).eval()
    nn.init.normal_(network.model[0].conv.weight)
    image = images(dims, channels)
    plain = exportable(network)
    assert type(plain.structure.submodule) is nn.Sequential
    assert {type(part).__module__.split(".")[0] for part in plain.structure.submodule.modules()} <= {"torch", "monai"}
    torch.testing.assert_close(plain(image), network(image), atol=1e-4, rtol=1e-4)
    assert plain.state_dict().keys() == network.state_dict().keys()


def test_structure_by_hand() -> None:
    """One step along the first axis: its places, and those beside them, differ from one neighbour alone."""
    image = torch.zeros(1, 1, 8, 4)
    image[:, :, 4:] = 3.0
    before, behind, *across = structure(image)[0, :, :, 1]
    # place 4 differs from the one before it, place 3 from the one behind it, and one of three does around those beside
    close = torch.testing.assert_close
    close(before, torch.tensor([0.0, 0, 0, before[3], before[4], before[5], 0, 0]))
    close(behind, before.flip(0))
    assert all(float(each.abs().max()) == 0 for each in across)
    # of four neighbours one differs, or two by as much: it is 4 or 2 times the mean
    close(before[5], 2 * torch.tensor(0.8 * 4).tanh(), atol=1e-3, rtol=0)
    close(before[4], 2 * torch.tensor(0.8 * 2).tanh(), atol=1e-3, rtol=0)


def test_contrast_and_inversion_change_little_and_noise_of_air_nothing() -> None:
    image = images(3)
    for changed in (5 + image, 4 * image, -image):
        torch.testing.assert_close(structure(changed), structure(image), atol=1e-3, rtol=1e-3)
    assert structure(1e-3 * image).abs().max() < 0.1


@torch.no_grad()
def test_in_less_than_float32_flat_regions_stay_flat() -> None:
    layers = exportable(StructureUNet(3, 1, 3, **UNET)).structure.submodule
    image = images(3)
    image[..., :8] = -1.0
    full = layers(image)
    with torch.autocast("cpu", torch.bfloat16):
        half = layers(image)
    assert half[..., :6].abs().max() == 0
    torch.testing.assert_close(half.float(), full, atol=0.05, rtol=0.05)
    # what keeps a quotient of nothing by nothing away is a number in float16 too
    assert torch.tensor(layers[3].submodule[1].k, dtype=torch.float16) > 0


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_it_begins_as_the_network_of_the_image(dims: int) -> None:
    torch.manual_seed(1)
    plain = UNet(dims, 2, 3, **UNET).eval()
    network = StructureUNet(dims, 2, 3, **UNET).eval()
    kernel = network.model[0].conv.weight
    assert kernel[:, 2:].abs().max() == 0
    assert kernel[:, :2].std() == pytest.approx(float(plain.model[0].conv.weight.std()), rel=0.3)
    state = plain.state_dict()
    first = state.pop("model.0.conv.weight")
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["model.0.conv.weight", *CONSTANTS], [])
    kernel[:, :2] = first
    image = images(dims, 2)
    torch.testing.assert_close(network(image), plain(image))
    kernel[:, 2:] += 0.1
    assert not torch.allclose(network(image), plain(image), atol=1e-3)


def test_it_learns_from_both_and_never_what_a_difference_is() -> None:
    torch.manual_seed(1)
    network = StructureUNet(3, 1, 3, **UNET)
    image = images(3)
    with mixed_precision(torch.device("cpu")):
        logits = network(image)
    nn.functional.cross_entropy(logits.float(), logits.argmin(1)).backward()
    gradient = network.model[0].conv.weight.grad
    assert gradient is not None
    assert gradient.shape == (4, 7, 3, 3, 3)
    assert all(gradient[:, channel].abs().max() > 0 for channel in range(7))
    assert not any(name.startswith("structure") for name, _ in network.named_parameters())
    assert set(network.state_dict()) >= set(CONSTANTS)


def test_weights_of_shapes_begin_it() -> None:
    definition = network_definition(WITH_STRUCTURE, classes=3)
    assert network_name(definition) == WITH_STRUCTURE
    assert concerns_of({"network_def": definition}, "inference") == []
    network = ConfigParser({"network": definition}).get_parsed_content("network")
    plain = ConfigParser({"network": network_definition("unet", classes=3)}).get_parsed_content("network")
    reports = [start_from(one, "shapes:unet") for one in (network, plain)]
    assert reports[0].encoder_share == reports[1].encoder_share == 1
    assert not [record.name for record in reports[0].records if record.name.startswith("structure")]
    kernel = network.model[0].conv.weight
    assert kernel[:, 1:].abs().max() == 0
    # at the length of a fresh one, which is drawn by chance
    torch.testing.assert_close(kernel[:, :1], plain.model[0].conv.weight, atol=0, rtol=0.1)


def test_its_own_weights_are_known_and_fit(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network, fresh = StructureUNet(3, 1, 3, **UNET), StructureUNet(3, 1, 3, **UNET)
    nn.init.normal_(network.model[0].conv.weight)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    assert recognise(network.state_dict()).backbone == WITH_STRUCTURE
    assert "(3D, 1 input channel)" in recognise(network.state_dict()).description
    report = load_pretrained(fresh, tmp_path / "model.pt")
    assert {record.status for record in report.records} == {"matched"}
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in network.state_dict().items())


def test_weights_of_one_image_channel_begin_one_of_two(tmp_path: Path) -> None:
    plain, network = UNet(3, 1, 3, **UNET), StructureUNet(3, 2, 3, **UNET)
    torch.save(plain.state_dict(), tmp_path / "model.pt")
    report = load_pretrained(network, tmp_path / "model.pt")
    record = next(record for record in report.records if record.name == "model.0.conv.weight")
    assert record.detail == "1 to 2 input channels (sum), 12 input channels that count for nothing yet"
    image = images(3)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image.expand(-1, 2, -1, -1, -1)), plain.eval()(image))


def test_it_is_a_network_like_the_others() -> None:
    network = StructureUNet(3, 1, 3, **UNET)
    assert feature_channels(network, images(3)) == (4, 8)
    levels = network_levels(network)
    assert set(levels["stem"]) >= set(CONSTANTS)
    assert list(levels) == ["stem", "level1", "head"]
