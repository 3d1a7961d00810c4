import copy

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_transfer.adaptation import random_patches, recalibrate_norm, tent
from monai_transfer.errors import UserError
from monai_transfer.losses import entropy_loss

from .contract import make_network

G = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module", params=[2, 3])
def trained(request):
    """A network that tells dark from bright voxels, and images of another brightness."""
    torch.manual_seed(2)
    generator = torch.Generator().manual_seed(2)
    dims = request.param
    network = UNet(dims, 1, 2, (4, 8), (2,), num_res_units=1, norm="BATCH")
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        image = torch.randn(4, 1, *(8,) * dims, generator=generator)
        loss = nn.functional.cross_entropy(network(image), (image[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    return network, [3 + 2 * torch.randn(2, 1, *(8,) * dims, generator=generator) for _ in range(4)]


def accuracy(network: nn.Module, images: list[torch.Tensor]) -> float:
    with torch.no_grad():
        hits = [(network(x).argmax(1) == (x[:, 0] > 3).long()).float().mean() for x in images]
    return float(torch.stack(hits).mean())


def test_recalibration_mends_a_shift_of_brightness(trained):
    network, images = trained
    before = copy.deepcopy(network.state_dict())
    result = recalibrate_norm(network, images, score=lambda *_: 0.0, min_agreement=0.0)
    assert result.kept
    assert accuracy(result.network, images) > accuracy(network, images) + 0.05
    assert not result.network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_recalibrated_statistics_are_the_means_of_the_images():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3))
    images = [torch.randn(50, 2, generator=G) * 3 + 1 for _ in range(4)]
    result = recalibrate_norm(network.eval(), images, score=lambda *_: 0.0, min_agreement=0.0)
    torch.testing.assert_close(result.network[0].running_mean, torch.stack([x.mean(0) for x in images]).mean(0))
    assert result.network[0].momentum == 0.1


def test_tent_lowers_the_entropy_and_moves_norms_alone(trained):
    network, images = trained
    before = copy.deepcopy(network.state_dict())
    result = tent(network, iter(images), steps=12, learning_rate=0.01, min_agreement=0.0, score=lambda *_: 0.0)
    assert result.kept
    recalibrated = recalibrate_norm(network, images, score=lambda *_: 0.0, min_agreement=0.0).network
    with torch.no_grad():
        mean = [sum(float(entropy_loss(n(x))) for x in images) for n in (recalibrated, result.network)]
    assert mean[1] < mean[0]
    norms = {name for name in before if ".N." in name}
    for name, value in result.network.state_dict().items():
        assert name in norms or torch.equal(value, before[name]), name
        assert torch.equal(network.state_dict()[name], before[name])
    assert all(p.requires_grad for p in result.network.parameters())


def test_rolled_back_when_the_score_drops(trained):
    network, images = trained
    scores = iter([1.0, 0.5])
    result = tent(network, images, steps=1, score=lambda *_: next(scores))
    assert not result.kept
    assert (result.score_before, result.score_after) == (1.0, 0.5)
    for name, value in result.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert result.network is not network


def test_rolled_back_when_predictions_leave_the_original(trained):
    network, images = trained
    constant = {"score": lambda *_: 0.0, "steps": 10, "learning_rate": 0.05}
    agreement = tent(network, images, min_agreement=0.0, **constant).agreement
    assert 0 < agreement < 1
    assert not tent(network, images, min_agreement=agreement + 0.01, **constant).kept


def test_rolled_back_when_numbers_stop_being_finite(trained):
    network, images = trained
    wild = tent(network, images, steps=3, learning_rate=1e30, parameters="all", min_agreement=0.0)
    assert not wild.kept
    assert all(torch.isfinite(value).all() for value in wild.network.state_dict().values())


def test_random_patches():
    images = [torch.arange(20.0).reshape(1, 4, 5), torch.zeros(1, 2, 9)]
    patches = random_patches(images, (3, 3), count=4, seed=0)
    assert [tuple(p.shape) for p in patches] == [(1, 1, 3, 3), (1, 1, 2, 3)] * 2
    again = random_patches(images, (3, 3), count=4, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(patches, again, strict=True))


def test_mistakes():
    plain = UNet(2, 1, 2, (4, 8), (2,), norm="INSTANCE")
    with pytest.raises(UserError, match="no images"):
        tent(make_network(2), [])
    with pytest.raises(UserError, match='"all"'):
        tent(plain, [torch.zeros(1, 1, 8, 8)])
    with pytest.raises(UserError, match="choose tent"):
        recalibrate_norm(plain, [torch.zeros(1, 1, 8, 8)])
