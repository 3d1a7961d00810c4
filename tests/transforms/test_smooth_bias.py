import pytest
import torch

from monai_transfer.transforms import RandSmoothBias


def test_field_is_positive_smooth_and_interpolates_the_grid():
    transform = RandSmoothBias(1.0, (0.5, 0.5), points=4).set_random_state(0)
    x = torch.ones(1, 31, 31)
    x[0, 0, 0] = 0.0  # the minimum is held at 0
    y = transform(x)
    assert (y >= 0).all()
    torch.testing.assert_close(y[0, 10, 20], transform.grid[0, 0, 1, 2].exp())
    assert y[0, 1:, 1:].log().diff(dim=0).abs().max() < 0.3


def test_minimum_is_held_after_normalisation():
    x = torch.randn(1, 10, 10, 10, generator=torch.Generator().manual_seed(0))
    y = RandSmoothBias(1.0).set_random_state(0)(x)
    assert y.min().item() == pytest.approx(x.min().item(), abs=1e-6)


def test_rejects_a_single_point():
    with pytest.raises(ValueError, match="points"):
        RandSmoothBias(points=1)
