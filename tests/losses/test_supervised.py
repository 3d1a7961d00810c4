"""The balanced Dice and cross entropy loss."""

import math

import pytest
import torch
from monai.losses import DiceLoss

from monai_transfer.losses import ClassBalancedDiceCELoss


def test_weights_are_the_classes_rarity() -> None:
    """Three voxels of class 0 and one of class 1, gamma 1/2: weights (3/4)^-1/2 and (1/4)^-1/2."""
    loss = ClassBalancedDiceCELoss(2, lambda_dice=0.0)
    label = torch.tensor([[[[0, 0], [0, 1]]]])
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 1, 1] = 2.0
    common, rare = (3 / 4) ** -0.5, (1 / 4) ** -0.5
    expected = (3 * common * math.log(2) + rare * math.log(1 + math.exp(-2))) / (3 * common + rare)
    assert float(loss(logits, label)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("jaccard", [False, True])
def test_the_overlap_is_monais_over_the_batch(jaccard: bool) -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 1, 4, 4, 4))
    ours = ClassBalancedDiceCELoss(3, lambda_ce=0.0, jaccard=jaccard)(logits, label)
    theirs = DiceLoss(to_onehot_y=True, softmax=True, batch=True, jaccard=jaccard)(logits, label)
    torch.testing.assert_close(ours, theirs)


def test_the_frequency_is_a_running_mean_kept_in_the_state() -> None:
    loss = ClassBalancedDiceCELoss(2, momentum=0.5)
    logits = torch.zeros(1, 2, 2, 2)
    loss(logits, torch.zeros(1, 1, 2, 2))
    loss(logits, torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(loss.state_dict()["frequency"], torch.tensor([0.5, 0.5]))
    loss.eval()
    loss(logits, torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(loss.frequency, torch.tensor([0.5, 0.5]))


def test_a_label_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="the label holds 2, but there are 2 classes"):
        ClassBalancedDiceCELoss(2)(torch.zeros(1, 2, 2, 2), torch.full((1, 1, 2, 2), 2))


def test_gradients_are_right() -> None:
    torch.manual_seed(0)
    loss = ClassBalancedDiceCELoss(3).eval()
    loss.frequency.copy_(torch.tensor([0.7, 0.2, 0.1]))
    label = torch.randint(0, 3, (1, 1, 3, 3))
    logits = torch.randn(1, 3, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: loss(value, label), (logits,))
