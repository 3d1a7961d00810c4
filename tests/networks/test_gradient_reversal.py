import pytest
import torch
from torch import nn

from monai_transfer.networks import GradientReversal


@pytest.mark.parametrize("strength", [0.25, 1.0, 3.0])
def test_identity_forwards_and_minus_strength_backwards(strength):
    x = torch.randn(2, 3, 4, requires_grad=True)
    y = GradientReversal(strength)(x)
    assert torch.equal(y, x)
    upstream = torch.randn_like(x)
    y.backward(upstream)
    torch.testing.assert_close(x.grad, -strength * upstream)


def test_strength_zero_lets_nothing_through():
    x = torch.randn(2, requires_grad=True)
    assert not GradientReversal(0.0)(x).requires_grad


def test_strength_may_be_set_between_forward_and_backward_of_two_passes():
    layer = GradientReversal(1.0)
    x = torch.ones(1, requires_grad=True)
    first = layer(x)
    layer.strength = 2.0
    (first + layer(x)).backward()
    assert x.grad.item() == -3.0


def test_reversed_gradient_of_a_function_is_minus_its_numerical_gradient():
    torch.manual_seed(0)
    head = nn.Linear(3, 1).double()
    x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    (reversed_,) = torch.autograd.grad(head(GradientReversal(0.7)(x)).sin().sum(), x)
    step = 1e-6
    for i in range(3):
        shift = torch.zeros(3, dtype=torch.double)
        shift[i] = step
        numerical = (head(x + shift).sin().sum() - head(x - shift).sin().sum()) / (2 * step)
        assert reversed_[:, i].sum().item() == pytest.approx(-0.7 * numerical.item(), rel=1e-5)
