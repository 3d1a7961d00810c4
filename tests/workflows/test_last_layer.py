"""The last layer of two tasks, fitted to the examinations of the validation."""

import math

import pytest
import torch

from monai_transfer.workflows.last_layer import fit_linear


def _noisy(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Three features: the third tells the class by a small difference, the others are noise and a constant."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(count) % 2
    noise = torch.randn(count, generator=rng, dtype=torch.float64)
    telling = -2.6 + 0.3 * truth + 0.03 * torch.randn(count, generator=rng, dtype=torch.float64)
    features = torch.stack([noise, torch.full((count,), -1e-4, dtype=torch.float64), telling], dim=1)
    return features, truth


def test_a_small_difference_is_weighed_high() -> None:
    features, truth = _noisy()
    targets = torch.nn.functional.one_hot(truth).double()
    weight, bias = fit_linear(features, targets, exclusive=True)
    assert ((features @ weight.T + bias).argmax(1) == truth).all()
    assert weight[1, 2] > 2 > abs(weight[1, 0])
    # the classes are each other's opposite, and a feature that is the same in all has no weight
    torch.testing.assert_close(weight[0], -weight[1], atol=1e-3, rtol=0)
    assert abs(weight[1, 1]) < 1e-3


def test_findings_that_nobody_knows_do_not_count() -> None:
    features, truth = _noisy()
    targets = torch.stack([truth.double(), torch.full((len(truth),), math.nan, dtype=torch.float64)], dim=1)
    weight, bias = fit_linear(features, targets, exclusive=False)
    answers = features @ weight.T + bias
    assert ((answers[:, 0] > 0) == truth.bool()).all()
    torch.testing.assert_close(answers[:, 1], torch.zeros(len(truth), dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("seed", "examinations", "organ", "lesion", "times"),
    [
        pytest.param(1, 20, (-0.04, 0.01, 0.005), (-2.5, 1.0, 0.4), 3, id="an organ that everybody has"),
        pytest.param(2, 48, (-1.0, 0.1, 0.4), (-7.5, 7.0, 1.2), 2, id="beside a lesion that is told well"),
    ],
)
def test_an_organ_is_not_magnified(seed, examinations, organ, lesion, times) -> None:
    """The lesion's share decides, though the organ's is by chance a little greater in the ill.

    Each is its usual output, what is more in the ill, and the noise.
    """
    rng = torch.Generator().manual_seed(seed)
    truth = torch.arange(examinations) % 2
    features = [
        usual + more * truth + noise * torch.randn(examinations, generator=rng, dtype=torch.float64)
        for usual, more, noise in (organ, lesion)
    ]
    targets = torch.nn.functional.one_hot(truth).double()
    weight, _ = fit_linear(torch.stack(features, dim=1), targets, exclusive=True)
    assert weight[1, 1] > times * abs(weight[1, 0])
