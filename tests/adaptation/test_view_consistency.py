"""A network adapts to images until it draws the same in two views of each."""

import copy

import pytest
import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.adaptation import view_consistency
from monai_transfer.adaptation.view_consistency import _Views
from monai_transfer.errors import UserError
from monai_transfer.losses import label_agreement
from monai_transfer.transforms import RandGIN

SIZE = 24


def discs(count: int, dims: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Images ``(count, 1, *spatial)`` of a bright and a dark ball on grey, and their labels ``(count, *spatial)``."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.arange(SIZE).float()] * dims, indexing="ij")
    place = torch.stack(axes)
    label = torch.zeros(count, *(SIZE,) * dims, dtype=torch.long)
    for one in label:
        for value, low in ((1, 5.0), (2, 13.0)):
            centre = low + 5 * torch.rand(dims, generator=generator)
            one[(place - centre.reshape(-1, *[1] * dims)).square().sum(0).sqrt() < 4] = value
    image = torch.tensor([0.0, 1.0, -1.0])[label] + 0.1 * torch.randn(label.shape, generator=generator)
    return image[:, None], label


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network that knows the balls by their brightness."""
    torch.manual_seed(0)
    network = UNet(2, 1, 3, (8, 16, 32), (2, 2), num_res_units=1)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(80):
        image, label = discs(4, 2, seed=step)
        loss = nn.functional.cross_entropy(network(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def other_scanner(image: Tensor) -> Tensor:
    """The images as another scanner shows them: what is bright less so, and shaded from one side to the other."""
    return torch.where(image > 0, 0.3 * image, image) + 0.8 * torch.linspace(-1, 1, SIZE)


def dice(network: nn.Module, image: Tensor, label: Tensor) -> float:
    with torch.no_grad():
        return float(label_agreement(network(image).argmax(1), label, 3))


def test_it_mends_what_another_scanner_breaks(trained: nn.Module) -> None:
    images = [other_scanner(discs(2, 2, seed=100 + number)[0]) for number in range(8)]
    new, label = discs(8, 2, seed=200)
    before = copy.deepcopy(trained.state_dict())
    result = view_consistency(trained, images, steps=60, learning_rate=1e-3)
    assert result.kept
    assert dice(result.network, other_scanner(new), label) > dice(trained, other_scanner(new), label) + 0.15
    assert not result.network.training
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    again = view_consistency(trained, images, steps=60, learning_rate=1e-3)
    assert again.agreement == result.agreement


def test_it_may_change_as_much_as_it_wavers(trained: nn.Module) -> None:
    known = [discs(2, 2, seed=300 + number)[0] for number in range(4)]
    wild = {"steps": 60, "learning_rate": 0.01, "score": lambda *_: 0.0}
    result = view_consistency(trained, known, **wild)
    assert not result.kept
    assert dice(result.network, *discs(4, 2, seed=400)) == dice(trained, *discs(4, 2, seed=400)) > 0.8
    assert view_consistency(trained, known, tolerance=0.0, **wild).kept


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_drawn_in_a_view_is_laid_back_onto_the_image(dims: int) -> None:
    """A threshold is blind to place: in one contrast it draws the same in every view."""
    image, _ = discs(1, dims, seed=1)
    image = image.repeat_interleave(2, -1)  # a rotation of a window that is no cube
    threshold = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 2, 1)
    nn.init.constant_(threshold.weight[1], 20.0)
    nn.init.constant_(threshold.weight[0], -20.0)
    nn.init.constant_(threshold.bias[1], -10.0)
    nn.init.constant_(threshold.bias[0], 10.0)
    views = _Views(0)
    views.contrast = RandGIN(1.0, alpha=(0.0, 0.0)).set_random_state(0)
    agreement = views.agreement(threshold, image)
    assert agreement is not None
    assert float(agreement.detach()) > 0.85


def test_a_network_that_sees_nothing_learns_nothing() -> None:
    empty = nn.Conv2d(1, 2, 1)
    nn.init.zeros_(empty.weight)
    empty.bias.data = torch.tensor([20.0, -20.0])
    result = view_consistency(empty, [torch.rand(1, 1, 16, 16)], steps=3)
    assert torch.equal(result.network.weight, empty.weight)


def test_mistakes(trained: nn.Module) -> None:
    with pytest.raises(UserError, match="no images"):
        view_consistency(trained, [])
    with pytest.raises(UserError, match='"all"'):
        view_consistency(trained, [torch.zeros(1, 1, 16, 16)], parameters="norm")
