import math

import pytest
import torch

from monai_transfer.losses import domain_loss


def test_by_hand():
    assert domain_loss(torch.zeros(3, 1), 1).item() == pytest.approx(math.log(2))
    assert domain_loss(torch.tensor([2.0]), 0).item() == pytest.approx(math.log(1 + math.exp(2)))
    assert domain_loss(torch.tensor([2.0, -1.0]), 1, kind="least_squares").item() == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize("kind", ["bce", "least_squares"])
@pytest.mark.parametrize("domain", [0, 1])
def test_gradient(kind, domain):
    z = torch.randn(5, 1, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: domain_loss(x, domain, kind=kind), z)


def test_extreme_half_precision_logits_stay_finite():
    z = torch.tensor([60000.0, -60000.0], dtype=torch.float16)
    loss = domain_loss(z, 1)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_unknown_kind():
    with pytest.raises(ValueError, match="hinge"):
        domain_loss(torch.zeros(1), 0, kind="hinge")
