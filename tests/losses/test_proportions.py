import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from monai_transfer.losses import size_divergence


def test_by_hand():
    value = size_divergence(torch.tensor([0.05, 0.2]), torch.tensor([0.1, 0.1]), epsilon=0.0)
    torch.testing.assert_close(value, torch.tensor([math.log(2) - 0.5, 1 - math.log(2)]))


def test_weighted_by_the_shares_it_is_the_kullback_leibler_divergence():
    tau, p = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.1, 0.4])
    reference = kl_divergence(Categorical(tau), Categorical(p))
    torch.testing.assert_close((tau * size_divergence(p, tau)).sum(), reference, atol=1e-5, rtol=0)


def test_a_class_counts_the_same_whatever_its_size():
    value = size_divergence(torch.tensor([0.2, 0.002]), torch.tensor([0.4, 0.004]), epsilon=0.0)
    assert value[0].item() == pytest.approx(value[1].item())


def test_zero_when_equal_and_finite_when_a_class_vanished():
    p = torch.tensor([0.7, 0.3])
    assert size_divergence(p, p).tolist() == [0.0, 0.0]
    assert torch.isfinite(size_divergence(torch.tensor([1.0, 0.0]), p)).all()


def test_gradient():
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.double, requires_grad=True)
    tau = torch.tensor([0.6, 0.3, 0.1], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: size_divergence(x, tau), p)
