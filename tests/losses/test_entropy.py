import math

import pytest
import torch
from scipy.stats import entropy

from monai_transfer.losses import entropy_loss, self_information

Z = torch.randn(2, 4, 3, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_uniform_is_one_and_certain_is_zero():
    assert entropy_loss(torch.zeros(1, 5, 2, 2, 2)).item() == pytest.approx(1.0)
    certain = torch.zeros(1, 3, 4)
    certain[:, 1] = 1000.0
    assert entropy_loss(certain).item() == pytest.approx(0.0, abs=1e-6)


def test_by_hand():
    logits = torch.tensor([0.25, 0.75]).log().reshape(1, 2, 1)
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert entropy_loss(logits).item() == pytest.approx(expected)
    assert self_information(logits)[0, 0, 0].item() == pytest.approx(0.5)


def test_against_scipy_with_mask():
    mask = torch.rand(2, 1, 3, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    reference = torch.from_numpy(entropy(Z.softmax(1).numpy(), base=4, axis=1))
    assert entropy_loss(Z, mask).item() == pytest.approx(reference[mask[:, 0]].mean().item())
    torch.testing.assert_close(self_information(Z).sum(1), reference)


def test_gradients():
    z = Z[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(entropy_loss, z)
    assert torch.autograd.gradcheck(self_information, z)


def test_empty_mask_is_zero():
    assert entropy_loss(Z, torch.zeros(2, 1, 3, 5)).item() == 0
