import pytest
import torch
from torch import nn

from monai_transfer.adaptation import AdaBN
from monai_transfer.errors import UserError

from .contract import MethodContract, forward, make_batch, make_network


class TestAdaBN(MethodContract):
    has_gradient = False

    def make(self, spatial_dims, network):
        return AdaBN()


def test_statistics_are_those_of_the_target_alone():
    network, alone = make_network(3), make_network(3)
    method = AdaBN()
    method.prepare(network)
    batch = make_batch(3)
    for _ in range(3):
        forward(network, method, batch)
        alone(batch["target"]["image"])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)


def test_statistics_come_back_after_an_error():
    network = make_network(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wrong = nn.Sequential(network, nn.Linear(3, 3))
    with pytest.raises(RuntimeError), AdaBN().forward_context(network, "source"):
        wrong(torch.randn(2, 1, 8, 8))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_needs_batch_norm():
    with pytest.raises(UserError, match="batch normalisation"):
        AdaBN().prepare(nn.Conv2d(1, 1, 1))
