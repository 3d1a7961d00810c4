import pytest
import torch
from monai.networks.nets import DynUNet, FlexibleUNet, SegResNet, SwinUNETR, UNet
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.networks import DenseNetEncoder, VGGEncoder, encoder_levels, names_of, network_levels

NAMES = [*VGGEncoder.get_encoder_names(), *DenseNetEncoder.get_encoder_names()]


def unet(backbone: str, spatial_dims: int = 2, **options) -> FlexibleUNet:
    return FlexibleUNet(1, 3, backbone, spatial_dims=spatial_dims, decoder_channels=(8, 8, 8, 8, 8), **options)


def test_names() -> None:
    assert set(NAMES) == {
        *(f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")),
        "densenet121",
        "densenet169",
    }
    assert set(NAMES) <= set(FLEXUNET_BACKBONE.register_dict)


@pytest.mark.parametrize("name", NAMES)
def test_five_levels_that_halve_the_grid(name: str) -> None:
    encoder = FLEXUNET_BACKBONE.register_dict[name]["type"](name, spatial_dims=2, in_channels=2)
    features = encoder.eval()(torch.zeros(1, 2, 64, 96))
    assert [tuple(feature.shape[2:]) for feature in features] == [(64 >> k, 96 >> k) for k in range(1, 6)]
    channels = FLEXUNET_BACKBONE.register_dict[name]["feature_channel"]
    assert tuple(feature.shape[1] for feature in features) == channels


@pytest.mark.parametrize(("name", "size"), [("vgg11_bn", 32), ("vgg11", 34), ("densenet121", 36), ("densenet121", 32)])
def test_3d_and_sizes_that_32_does_not_divide(name: str, size: int) -> None:
    network = unet(name, spatial_dims=3).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, size, 32, 32)).shape == (1, 3, size, 32, 32)


@pytest.mark.parametrize("size", [32, 34, 38, 46, 50, 62])
def test_vgg_takes_every_even_size(size: int) -> None:
    with torch.no_grad():
        assert unet("vgg11").eval()(torch.zeros(1, 1, size, size)).shape[2:] == (size, size)


def test_parameter_counts_are_the_published_ones() -> None:
    """Torchvision's totals less their classifiers: 138 357 544, 143 678 248, 7 978 856 and 14 149 480."""
    counts = {name: _count(name) for name in ("vgg16", "vgg19_bn", "densenet121", "densenet169")}
    classifier = 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    assert counts == {
        "vgg16": 138_357_544 - classifier,
        "vgg19_bn": 143_678_248 - classifier,
        "densenet121": 7_978_856 - 1024 * 1000 - 1000,
        "densenet169": 14_149_480 - 1664 * 1000 - 1000,
    }


def _count(name: str) -> int:
    with torch.device("meta"):
        encoder = FLEXUNET_BACKBONE.register_dict[name]["type"](name, spatial_dims=2, in_channels=3)
    return sum(parameter.numel() for parameter in encoder.parameters())


def test_every_parameter_gets_a_gradient() -> None:
    for name in ("vgg11_bn", "densenet121"):
        network = unet(name)
        network(torch.randn(2, 1, 64, 64)).square().mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters()), name


def test_building_one_network_does_not_change_the_next() -> None:
    """FlexibleUNet writes into its registry; another class asking for the parameters gets fresh ones."""
    unet("vgg11", spatial_dims=2)
    assert VGGEncoder.get_encoder_parameters()[0]["spatial_dims"] == 3
    first = unet("vgg11", spatial_dims=3).encoder.features[0]
    assert isinstance(first, nn.Conv3d)


def test_state_dict_and_trace() -> None:
    network = unet("densenet121").eval()
    image = torch.randn(1, 1, 32, 32)
    traced = torch.jit.trace(network, image)
    assert torch.allclose(traced(image), network(image), atol=1e-5)


def test_nothing_is_fetched_while_building() -> None:
    with pytest.raises(UserError, match=r"set pretrained to false and load .*imagenet:vgg16"):
        unet("vgg16", pretrained=True)
    with pytest.raises(UserError, match="no backbone 'vgg12'"):
        VGGEncoder("vgg12")
    with pytest.raises(UserError, match="no backbone 'densenet201'"):
        DenseNetEncoder("densenet201")


NETWORKS = {
    "resnet10": lambda: unet("resnet10"),
    "vgg11": lambda: unet("vgg11"),
    "densenet121": lambda: unet("densenet121"),
    "efficientnet-b0": lambda: unet("efficientnet-b0"),
    "unet": lambda: UNet(3, 1, 2, (4, 8, 8, 8, 16), (2, 2, 2, 2)),
    "swin": lambda: SwinUNETR(in_channels=1, out_channels=2, feature_size=12, use_v2=True),
    "segresnet": lambda: SegResNet(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_levels(name: str) -> None:
    network = NETWORKS[name]()
    levels = network_levels(network)
    assert list(levels) == ["stem", "level1", "level2", "level3", "level4", "decoder", "head"]
    names = [tensor for names in levels.values() for tensor in names]
    assert sorted(names) == sorted(network.state_dict())
    assert encoder_levels(network) == ("stem", "level1", "level2", "level3", "level4")
    assert any(tensor.endswith("weight") for tensor in levels["head"])


def test_levels_go_from_the_input_to_the_output() -> None:
    """A level's features depend on it and on the levels before: gradients of a feature reach exactly those."""
    for name in ("resnet10", "vgg11_bn", "densenet121", "efficientnet-b0"):
        network = unet(name)
        encoder = encoder_levels(network)
        for index, feature in enumerate(network.encoder(torch.randn(2, 1, 64, 64))[:4]):
            network.zero_grad()
            feature.sum().backward(retain_graph=True)
            reached = {key for key, value in network.named_parameters() if value.grad is not None}
            deeper = names_of(network, encoder[index + 2 :])
            assert reached.isdisjoint(deeper), (name, index)


def test_shared_tensors_are_named_once() -> None:
    network = DynUNet(3, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2])
    names = [name for names in network_levels(network).values() for name in names]
    assert len(names) == len(set(names)) == len(list(network.parameters()))


def test_wrappers_and_unknown_networks() -> None:
    assert next(iter(network_levels(nn.DataParallel(unet("vgg11"))))) == "stem"
    assert network_levels(nn.Linear(2, 2)) == {"network": ("weight", "bias")}
    with pytest.raises(UserError, match="has no level 'stem'"):
        names_of(nn.Linear(2, 2), ["stem"])
