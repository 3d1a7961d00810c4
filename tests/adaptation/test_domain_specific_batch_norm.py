import pytest
import torch

from monai_transfer.adaptation import DomainSpecificBatchNorm, SourceOnly
from monai_transfer.errors import UserError

from .contract import MethodContract, forward, gradients, make_batch, make_network, supervised


class TestStatisticsAlone(MethodContract):
    has_gradient = False

    def make(self, spatial_dims, network):
        return DomainSpecificBatchNorm(network, affine=False)


class TestAffine(MethodContract):
    has_gradient = False

    def make(self, spatial_dims, network):
        return DomainSpecificBatchNorm(network)

    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_strength_zero_gives_the_gradients_of_source_only(self, spatial_dims):
        """At first all norms are alike: convolutions agree, and the source's norms get what the network's would."""
        network, method, batch = self.ready(spatial_dims)
        mine = gradients(network, method, batch)
        reference = gradients(network, SourceOnly(), {"source": batch["source"]})
        for name, gradient in mine.items():
            assert torch.equal(gradient, reference[name]), name
        norms = {name for name, _ in network.named_parameters() if "adn.N" in name}
        assert set(reference) - set(mine) == norms
        for lent, name in zip(method.parameters(), [n for n in reference if n in norms], strict=True):
            assert torch.equal(lent.grad, reference[name])


def test_each_domain_has_its_own_statistics_and_the_network_holds_the_target():
    network, alone = make_network(3), make_network(3)
    method = DomainSpecificBatchNorm(network, ("source", "source_two"))
    batch = make_batch(3, ("source", "source_two", "target"))
    for _ in range(2):
        forward(network, method, batch)
        alone(batch["target"]["image"])
    for name, value in alone.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    first, second = (method.norms[name][0].running_mean for name in ("source", "source_two"))
    assert not torch.equal(first, second)


def test_backward_after_the_exchange_reaches_the_source_norms():
    network = make_network(2)
    method = DomainSpecificBatchNorm(network)
    batch = make_batch(2)
    optimizer = torch.optim.SGD([*network.parameters(), *method.parameters()], 0.1)
    own = network.state_dict()["model.0.conv.unit0.adn.N.weight"].clone()
    supervised(forward(network, method, batch), batch).backward()
    optimizer.step()
    assert torch.equal(network.state_dict()["model.0.conv.unit0.adn.N.weight"], own)
    assert not torch.equal(method.norms["source"][0].weight, own)


def test_a_forward_pass_outside_of_the_context_is_noticed():
    network = make_network(2)
    with pytest.raises(RuntimeError, match="forward_context"):
        DomainSpecificBatchNorm(network).losses(forward(network, SourceOnly(), make_batch(2)), {})


def test_needs_layers_that_can_differ():
    with pytest.raises(UserError, match="batch normalisation"):
        DomainSpecificBatchNorm(make_network(2, norm="INSTANCE"))
