import pytest
import torch

from monai_transfer.transforms import RandContrastCurve


def ramp() -> torch.Tensor:
    return torch.linspace(0, 1, 101).reshape(1, 101, 1)


def test_interpolates_its_knots_and_keeps_mean_and_spread():
    transform = RandContrastCurve(1.0, (5, 5), quantiles=(0.0, 1.0), keep_air=0.0).set_random_state(2)
    y = transform(ramp())
    knots = transform.curves[0]
    at_knots = y[0, ::25, 0]
    assert y.mean().item() == pytest.approx(0.5, abs=1e-5)
    assert y.std().item() == pytest.approx(ramp().std().item(), rel=1e-5)
    # an affine map of the knots: ratios of differences agree
    torch.testing.assert_close(
        (at_knots - at_knots[0]) / (at_knots[1] - at_knots[0]), (knots - knots[0]) / (knots[1] - knots[0])
    )
    middle = (y[0, 0, 0] + y[0, 24, 0]) / 2
    torch.testing.assert_close(y[0, 12, 0], middle, atol=1e-5, rtol=1e-4)


def test_air_stays_darkest():
    for seed in range(20):
        y = RandContrastCurve(1.0, keep_air=1.0, quantiles=(0.0, 1.0)).set_random_state(seed)(ramp())
        assert torch.equal(y[0, 0, 0], y.min())


def test_some_curve_is_not_monotone():
    steps = RandContrastCurve(1.0, (8, 8), keep_air=0.0).set_random_state(0)(ramp())[0, :, 0].diff()
    assert (steps > 1e-4).any()
    assert (steps < -1e-4).any()


def test_channels_get_curves_of_their_own():
    y = RandContrastCurve(1.0).set_random_state(0)(ramp().repeat(2, 1, 1))
    assert not torch.allclose(y[0], y[1])


def test_large_image_is_no_problem_for_the_quantiles():
    assert RandContrastCurve(1.0).set_random_state(0)(torch.rand(1, 4200, 4200)).shape == (1, 4200, 4200)


def test_rejects_too_few_knots():
    with pytest.raises(ValueError, match="knots"):
        RandContrastCurve(knots=(1, 3))


def test_gathered_knots_lie_where_the_voxels_are():
    """Nine voxels in ten share a tenth of the range; even knots leave their order, gathered knots change it."""
    crowd = torch.linspace(0.5, 0.6, 900)
    image = torch.cat([crowd, torch.linspace(0, 1, 100)]).reshape(1, -1, 1)

    def turns(gather: float) -> int:
        curve = RandContrastCurve(1.0, (4, 4), keep_air=0.0, quantiles=(0.0, 1.0), gather=gather)
        found = 0
        for seed in range(40):
            signs = curve.set_random_state(seed)(image)[0, :900, 0].diff().sign()
            found += bool((signs > 0).any() and (signs < 0).any())
        return found

    assert turns(0.0) == 0
    assert turns(0.95) > 3


def test_gathered_knots_keep_the_ends():
    curve = RandContrastCurve(1.0, (5, 5), keep_air=0.0, quantiles=(0.0, 1.0), gather=0.9).set_random_state(1)
    y = curve(ramp().square())[0, :, 0]
    knots = curve.curves[0]
    ratio = (y[-1] - y[0]) / (y.max() - y.min())
    assert ratio.item() == pytest.approx(((knots[-1] - knots[0]) / (knots.max() - knots.min())).item(), abs=0.05)


def test_rejects_gathering_all_the_way():
    with pytest.raises(ValueError, match="gather"):
        RandContrastCurve(gather=1.0)
