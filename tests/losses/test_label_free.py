import math

import pytest
import torch
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot

from monai_transfer.losses import information_score, label_agreement, soft_neighbourhood_density

G = torch.Generator().manual_seed(0)


def test_information_is_one_for_certain_and_balanced_and_zero_for_collapsed_or_uniform():
    certain = torch.eye(4).T[None]  # four voxels, four classes
    assert information_score(certain).item() == pytest.approx(1.0)
    collapsed = torch.zeros(1, 4, 9)
    collapsed[:, 0] = 1
    assert information_score(collapsed).item() == pytest.approx(0.0)
    assert information_score(torch.full((1, 4, 3, 3), 0.25)).item() == pytest.approx(0.0, abs=1e-6)


def test_density_by_hand():
    # two clusters of two: each row is sure of its twin, entropy about 0
    x = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert soft_neighbourhood_density(x).item() == pytest.approx(0.0, abs=1e-6)
    # all alike: uniform over the three others
    assert soft_neighbourhood_density(torch.ones(4, 2)).item() == pytest.approx(math.log(3), abs=1e-5)


def test_density_against_the_sums_written_out():
    x = torch.rand(6, 3, generator=G).softmax(1)
    unit = x / x.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(6):
        e = [math.exp(float(unit[i] @ unit[j]) / 0.05) for j in range(6) if j != i]
        total -= sum(v / sum(e) * math.log(v / sum(e)) for v in e)
    assert soft_neighbourhood_density(x).item() == pytest.approx(total / 6, rel=1e-4)


def test_density_takes_maps():
    maps = torch.rand(1, 3, 20, 20, 20, generator=G).softmax(1)
    assert torch.isfinite(soft_neighbourhood_density(maps, limit=100))


def test_agreement_against_monai():
    first = torch.randint(0, 4, (1, 1, 6, 7, 8), generator=G)
    second = torch.where(torch.rand(first.shape, generator=G) < 0.3, torch.zeros_like(first), first)
    reference = DiceMetric(include_background=False)(one_hot(first, 4), one_hot(second, 4)).mean()
    assert label_agreement(first, second, 4).item() == pytest.approx(reference.item())


def test_agreement_of_empty_maps_and_absent_classes():
    empty = torch.zeros(3, 3)
    assert label_agreement(empty, empty, 3).item() == 1
    one = empty.clone()
    one[0] = 1
    assert label_agreement(one, one, 3).item() == 1
    assert label_agreement(one, empty, 3).item() == 0
