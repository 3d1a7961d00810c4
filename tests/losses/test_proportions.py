import math

import pytest
import torch

from monai_transfer.losses import proportion_divergence


def test_by_hand():
    value = proportion_divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]), epsilon=0.0)
    assert value.item() == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))


def test_zero_when_equal_and_finite_when_a_class_vanished():
    p = torch.tensor([0.7, 0.3])
    assert proportion_divergence(p, p).item() == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(proportion_divergence(torch.tensor([1.0, 0.0]), p))


def test_gradient():
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.double, requires_grad=True)
    tau = torch.tensor([0.6, 0.3, 0.1], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: proportion_divergence(x, tau), p)
