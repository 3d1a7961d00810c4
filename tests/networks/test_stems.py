import torch

from monai_transfer.bundle.networks import NETWORKS, STEMMED, network_definition, network_name
from monai_transfer.networks import StemmedUNet, feature_layers, network_levels, tap


def a_network(channels: int = 2) -> StemmedUNet:
    torch.manual_seed(0)
    return StemmedUNet(2, channels, 3, stem_channels=4, channels=[8, 16], strides=[2]).eval()


def test_a_stem_sees_one_channel_alone():
    network, image = a_network(), torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[:, 1] = 0
    first, second = network.stems(image), network.stems(other)
    torch.testing.assert_close(first[:, :4], second[:, :4], rtol=0, atol=0)
    assert not torch.allclose(first[:, 4:], second[:, 4:])


def test_levels_and_features_are_those_of_the_unet_with_the_stems_in_its_stem():
    network = a_network()
    levels = network_levels(network)
    assert sum(map(len, levels.values())) == len(network.state_dict())
    assert all(name in levels["stem"] for name in network.state_dict() if name.startswith("stems."))
    with tap(network, feature_layers(network)) as features:
        network(torch.rand(1, 2, 16, 16))
        assert [feature.shape[1] for feature in features] == [8, 16]


def test_the_command_line_knows_it():
    definition = network_definition(STEMMED, classes=3, channels=2)
    assert STEMMED in NETWORKS
    assert network_name(definition) == STEMMED
    assert (definition["_target_"], definition["in_channels"]) == ("monai_transfer.networks.StemmedUNet", 2)
