import math

import pytest
import torch

from monai_transfer.losses import mmd_loss

G = torch.Generator().manual_seed(0)
S = torch.randn(6, 3, dtype=torch.double, generator=G)
T = torch.randn(4, 3, dtype=torch.double, generator=G) + 1


def reference(source, target, factors):
    """Sums written out."""
    both = [*source, *target]
    distances = [float(((a - b) ** 2).sum()) for i, a in enumerate(both) for j, b in enumerate(both) if i != j]
    scale = sum(distances) / len(distances)

    def k(a, b):
        d = float(((a - b) ** 2).sum())
        return sum(math.exp(-d / (f * scale)) for f in factors) / len(factors)

    def mean(first, second):
        return sum(k(a, b) for a in first for b in second) / (len(first) * len(second))

    return mean(source, source) + mean(target, target) - 2 * mean(source, target)


def test_against_the_sums_written_out():
    for factors in [(1.0,), (0.25, 0.5, 1.0, 2.0, 4.0)]:
        assert mmd_loss(S, T, factors=factors).item() == pytest.approx(reference(S, T, factors))


def test_by_hand():
    # one vector each, squared distance 4, bandwidth 2: 1 + 1 - 2 exp(-2)
    value = mmd_loss(torch.tensor([[0.0]]), torch.tensor([[2.0]]), factors=(1.0,), bandwidth=2.0)
    assert value.item() == pytest.approx(2 - 2 * math.exp(-2))


def test_zero_on_itself_symmetric_and_growing():
    assert mmd_loss(S, S).item() == pytest.approx(0.0, abs=1e-12)
    assert mmd_loss(S, T).item() == pytest.approx(mmd_loss(T, S).item())
    assert mmd_loss(S, S + 0.1, bandwidth=1.0) < mmd_loss(S, S + 1.0, bandwidth=1.0)


def test_gradient():
    inputs = (S.clone().requires_grad_(), T.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda s, t: mmd_loss(s, t, bandwidth=3.0), inputs)


def test_equal_vectors_stay_finite():
    x = torch.ones(3, 2, requires_grad=True)
    loss = mmd_loss(x, torch.ones(3, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(x.grad).all()
