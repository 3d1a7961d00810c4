"""The last layer of two tasks, fitted to the examinations of the validation."""

import math

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


def test_beside_a_lesion_that_is_told_well_organs_have_no_weight() -> None:
    rng = torch.Generator().manual_seed(2)
    truth = torch.arange(48) % 2
    organ = -1.0 + 0.1 * truth + 0.4 * torch.randn(48, generator=rng, dtype=torch.float64)
    lesion = -7.5 + 7.0 * truth + 1.2 * torch.randn(48, generator=rng, dtype=torch.float64)
    targets = torch.nn.functional.one_hot(truth).double()
    weight, _ = fit_linear(torch.stack([organ, lesion], dim=1), targets, exclusive=True)
    assert weight[1, 1] > 2 * abs(weight[1, 0])


def test_an_organ_that_everybody_has_is_not_magnified() -> None:
    """Certain in all, and by chance a hair more so in the ill: the lesion's share decides."""
    rng = torch.Generator().manual_seed(1)
    truth = torch.arange(20) % 2
    organ = -0.04 + 0.01 * truth + 0.005 * torch.randn(20, generator=rng, dtype=torch.float64)
    lesion = -2.5 + 1.0 * truth + 0.4 * torch.randn(20, generator=rng, dtype=torch.float64)
    targets = torch.nn.functional.one_hot(truth).double()
    weight, _ = fit_linear(torch.stack([organ, lesion], dim=1), targets, exclusive=True)
    assert weight[1, 1] > 3 * abs(weight[1, 0])
