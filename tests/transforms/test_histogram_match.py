import numpy as np
import torch

from monai_transfer.transforms import RandHistogramMatch

G = torch.Generator().manual_seed(0)


def test_takes_the_quantiles_and_keeps_the_order():
    x = torch.randn(1, 10, 11, 12, generator=G)
    reference = torch.rand(1, 8, 9, 30, generator=G) ** 2 * 100
    y = RandHistogramMatch([reference], 1.0).set_random_state(0)(x)
    levels = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(np.quantile(y, levels), np.quantile(reference, levels), rtol=0.03, atol=0.1)
    assert (y.flatten()[x.flatten().argsort()].diff() >= 0).all()


def test_channels_are_matched_apart():
    x = torch.randn(2, 16, 16, generator=G)
    reference = torch.stack([torch.rand(20, 20, generator=G), torch.rand(20, 20, generator=G) + 5])
    y = RandHistogramMatch([reference], 1.0).set_random_state(0)(x)
    assert 0 <= y[0].min() <= y[0].max() <= 1
    assert 5 <= y[1].min() <= y[1].max() <= 6
