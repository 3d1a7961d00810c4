"""Sums of Dice and cross entropy with a gradient that is written down, against torch's own steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_transfer.losses.class_sums import ClassSums, class_sums

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def _draw(dtype: torch.dtype = torch.double) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 3, 4, 5, 6, dtype=dtype, generator=generator)
    labels = torch.randint(0, 3, (2, 1, 4, 5, 6), generator=generator)
    return logits.requires_grad_(), labels, torch.rand(2, 1, 4, 5, 6, generator=generator) > 0.4


def _step_by_step(logits: Tensor, labels: Tensor, mask: Tensor | None, weights: Tensor) -> ClassSums:
    of_label = F.one_hot(labels[:, 0], 3).movedim(-1, 1).to(logits)
    counts = torch.ones_like(of_label) if mask is None else mask.to(logits).expand_as(of_label)
    axes = [0, 2, 3, 4]
    shared, both = (
        (logits.softmax(1) * of_label * counts).sum(axes),
        ((logits.softmax(1) + of_label) * counts).sum(axes),
    )
    weighed = of_label * counts * weights.to(logits).reshape(1, -1, 1, 1, 1)
    return ClassSums(shared, both, -(weighed * logits.log_softmax(1)).sum(), weighed.sum())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
def test_sums_and_gradients_are_those_of_torchs_own_steps(masked: bool, dtype: torch.dtype) -> None:
    logits, labels, mask = _draw(dtype)
    given = mask if masked else None
    found = class_sums(logits, labels, given, WEIGHTS.to(dtype))
    expected = _step_by_step(logits, labels, given, WEIGHTS)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    losses = [
        sums.dice_loss(1e-5) + sums.dice_loss(1.0, jaccard=True) + sums.cross_entropy() for sums in (found, expected)
    ]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


def test_a_class_that_is_certain_not_to_be_there_costs_what_its_logit_says() -> None:
    """Its probability is zero in float32, the logarithm of that infinite."""
    logits = torch.tensor([[[200.0], [0.0]]], requires_grad=True)
    sums = class_sums(logits, torch.ones(1, 1, 1, dtype=torch.long))
    assert float(sums.cross_entropy()) == 200.0
    assert torch.autograd.grad(sums.surprise, logits)[0].flatten().tolist() == [1.0, -1.0]


def test_gradients_stay_in_their_precision_inside_autocast() -> None:
    logits, labels, mask = _draw(torch.float32)
    expected = torch.autograd.grad(class_sums(logits, labels, mask).dice_loss(1.0), logits)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(class_sums(logits, labels, mask).dice_loss(1.0), logits)[0]
    assert torch.equal(found, expected)
