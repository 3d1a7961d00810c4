import math

import pytest
import torch

from monai_transfer.losses import patch_nce_loss

G = torch.Generator().manual_seed(0)


def test_by_hand():
    k = torch.eye(2)[None]
    expected = math.log(1 + math.exp(-1 / 0.5))
    assert patch_nce_loss(3 * k, k, temperature=0.5).item() == pytest.approx(expected)
    assert patch_nce_loss(k.flip(1), k, temperature=0.5).item() == pytest.approx(2 + expected)


def test_uniform_when_all_places_are_alike():
    ones = torch.ones(2, 5, 3)
    assert patch_nce_loss(ones, ones).item() == pytest.approx(math.log(5))


def test_gradient_reaches_the_queries_alone():
    q = torch.randn(1, 4, 3, dtype=torch.double, generator=G, requires_grad=True)
    k = torch.randn(1, 4, 3, dtype=torch.double, generator=G, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: patch_nce_loss(x, k.detach()), q)
    patch_nce_loss(q, k).backward()
    assert k.grad is None
