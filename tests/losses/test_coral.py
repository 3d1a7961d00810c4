import numpy as np
import pytest
import torch

from monai_transfer.losses import coral_loss

G = torch.Generator().manual_seed(0)
S = torch.randn(7, 3, dtype=torch.double, generator=G)
T = torch.randn(5, 3, dtype=torch.double, generator=G) * 2


def test_against_numpy():
    difference = np.cov(S.numpy().T) - np.cov(T.numpy().T)
    assert coral_loss(S, T).item() == pytest.approx((difference**2).sum() / 36)


def test_by_hand():
    # variances 2 and 8 in one dimension: (2 - 8)^2 / 4
    assert coral_loss(torch.tensor([[-1.0], [1.0]]), torch.tensor([[-2.0], [2.0]])).item() == pytest.approx(9.0)


def test_zero_on_itself_and_blind_to_shift():
    assert coral_loss(S, S).item() == 0
    assert coral_loss(S, S + 10).item() == pytest.approx(0.0, abs=1e-12)


def test_gradient():
    assert torch.autograd.gradcheck(coral_loss, (S.clone().requires_grad_(), T.clone().requires_grad_()))


def test_one_vector_has_no_covariance():
    with pytest.raises(ValueError, match="two vectors"):
        coral_loss(S[:1], T)
