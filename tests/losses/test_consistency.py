import math

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

from monai_transfer.losses import probability_mse, pseudo_label_loss, soft_cross_entropy

G = torch.Generator().manual_seed(0)
Z = torch.randn(2, 3, 4, 5, dtype=torch.double, generator=G)
P = torch.randn(2, 3, 4, 5, dtype=torch.double, generator=G).softmax(1)
MASK = torch.rand(2, 1, 4, 5, generator=G) > 0.3


def test_soft_cross_entropy_against_torch():
    assert soft_cross_entropy(Z, P).item() == pytest.approx(F.cross_entropy(Z, P).item())
    per_voxel = F.cross_entropy(Z, P, reduction="none")
    assert soft_cross_entropy(Z, P, MASK).item() == pytest.approx(per_voxel[MASK[:, 0]].mean().item())


def test_mse_by_hand():
    logits = torch.zeros(1, 2, 1)
    p = torch.tensor([1.0, 0.0]).reshape(1, 2, 1)
    assert probability_mse(logits, p).item() == pytest.approx(0.5)
    assert probability_mse(p.log().clamp_min(-50), p).item() == pytest.approx(0.0, abs=1e-10)


def test_pseudo_labels_against_torch_and_monai():
    labels = P.argmax(1, keepdim=True)
    dice = DiceLoss(softmax=True, to_onehot_y=True, batch=True, smooth_nr=1, smooth_dr=1)(Z, labels)
    expected = F.cross_entropy(Z, labels[:, 0]) + dice
    assert pseudo_label_loss(Z, labels).item() == pytest.approx(expected.item())


def test_pseudo_labels_ignore_what_is_masked_out():
    labels = P.argmax(1, keepdim=True)
    changed = torch.where(MASK, Z, Z + torch.randn(Z.shape, generator=G, dtype=torch.double) * 10)
    assert pseudo_label_loss(Z, labels, MASK).item() == pytest.approx(pseudo_label_loss(changed, labels, MASK).item())


def test_class_weights():
    logits = torch.zeros(1, 2, 2)
    logits[0, 1, 1] = 1.0
    labels = torch.tensor([[[0, 1]]])
    even = pseudo_label_loss(logits, labels)
    only_first = pseudo_label_loss(logits, labels, class_weights=torch.tensor([1.0, 0.0]))
    ce_second = math.log(1 + math.exp(-1))
    assert (even - only_first).item() == pytest.approx((math.log(2) + ce_second) / 2 - math.log(2), abs=1e-6)


@pytest.mark.parametrize("loss", [soft_cross_entropy, probability_mse])
def test_gradients(loss):
    assert torch.autograd.gradcheck(lambda z: loss(z, P[:1], MASK[:1]), Z[:1].clone().requires_grad_())


def test_gradient_of_pseudo_labels():
    labels = P[:1].argmax(1, keepdim=True)
    assert torch.autograd.gradcheck(lambda z: pseudo_label_loss(z, labels, MASK[:1]), Z[:1].clone().requires_grad_())


def test_empty_masks_give_zero_with_a_gradient():
    none = torch.zeros(2, 1, 4, 5)
    z = Z.clone().requires_grad_()
    total = soft_cross_entropy(z, P, none) + probability_mse(z, P, none)
    total = total + pseudo_label_loss(z, P.argmax(1, keepdim=True), none)
    total.backward()
    assert total.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))
