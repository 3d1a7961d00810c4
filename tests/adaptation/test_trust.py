import pytest
import torch

from monai_transfer.adaptation.trust import ClassBalancedTrust
from monai_transfer.errors import UserError


def probabilities(values: list[float]) -> torch.Tensor:
    """Probability of class 1 by voxel -> ``(1, 2, n)``."""
    p = torch.tensor(values)
    return torch.stack([1 - p, p])[None]


def test_each_class_keeps_its_most_confident_share():
    p = probabilities([0.9, 0.8, 0.7, 0.6, 0.05, 0.1, 0.2, 0.3, 0.4])
    mask = ClassBalancedTrust(2, keep=(0.5, 0.5), confidence=1.0)(p)
    # class 1: confidences .9 .8 .7 .6, median .75; class 0: .95 .9 .8 .7 .6, median .8
    assert mask[0, 0].tolist() == [True, True, False, False, True, True, True, False, False]


def test_confidence_and_floor_bound_the_thresholds():
    p = probabilities([0.99, 0.97, 0.96, 0.2, 0.45])
    mask = ClassBalancedTrust(2, keep=(0.3, 0.3), confidence=0.95)(p)
    assert mask[0, 0, :3].all()
    mask = ClassBalancedTrust(2, keep=(1.0, 1.0), floor=0.6)(p)
    assert mask[0, 0].tolist() == [True, True, True, True, False]


def test_thresholds_are_a_running_mean_and_unseen_classes_wait():
    trust = ClassBalancedTrust(3, keep=(1.0, 1.0), momentum=0.5)
    one_class = torch.tensor([0.8, 0.1, 0.1]).reshape(1, 3, 1)
    trust(one_class)
    trust(torch.tensor([0.6, 0.2, 0.2]).reshape(1, 3, 1))
    assert trust.thresholds[0].item() == pytest.approx(0.7)
    assert trust.thresholds[1:].isnan().all()


def test_curriculum_follows_strength():
    p = torch.rand(1, 2, 500, generator=torch.Generator().manual_seed(0)).softmax(1)
    early = ClassBalancedTrust(2, keep=(0.2, 0.9))(p, 0.0).float().mean()
    late = ClassBalancedTrust(2, keep=(0.2, 0.9))(p, 1.0).float().mean()
    assert early.item() == pytest.approx(0.2, abs=0.02)
    assert late.item() == pytest.approx(0.9, abs=0.02)


def test_shares_are_checked():
    with pytest.raises(UserError, match="keep"):
        ClassBalancedTrust(2, keep=(0.0, 0.5))
