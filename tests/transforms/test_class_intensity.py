import pytest
import torch

from monai_transfer.errors import UserError
from monai_transfer.transforms import ClassIntensities, IntensityProfile, RandClassIntensityd


def profile(mean: list[float], deviation: list[float], low: float = 0.0, high: float = 1.0) -> IntensityProfile:
    as_column = [torch.tensor(values)[:, None] for values in (mean, deviation)]
    return IntensityProfile(torch.tensor([low]), torch.tensor([high]), *as_column)


def holder(*profiles: IntensityProfile) -> ClassIntensities:
    intensities = ClassIntensities()
    intensities.renew(list(profiles))
    return intensities


def painter(intensities: ClassIntensities, prob: float = 1.0, **options: float) -> RandClassIntensityd:
    return RandClassIntensityd("image", "label", intensities, prob, **options)


def case() -> dict[str, torch.Tensor]:
    """A background from 0 to 1 and two organs."""
    image = torch.linspace(0, 1, 20 * 20 * 20).reshape(1, 20, 20, 20)
    label = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    label[:, 2:8, 2:8, 2:8] = 1
    label[:, 10:18, 10:18, 10:18] = 2
    return {"image": image, "label": label}


NAN = float("nan")


def test_measures_the_surer_half_of_each_class_as_median_and_scaled_mad():
    image = torch.tensor([0.0] * 40 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] + [100.0] * 8).reshape(1, -1, 1)
    probabilities = torch.zeros(3, 56, 1)
    probabilities[0, :40] = 1
    probabilities[1, 40:48] = 0.9
    probabilities[1, 48:] = 0.6  # unsure voxels must not count
    measured = IntensityProfile.measure(image, probabilities)
    assert measured.mean[1].item() == 4.0  # the lower median of 1 … 8
    assert measured.deviation[1].item() == pytest.approx(1.4826 * 2.0)  # distances 3 2 1 0 1 2 3 4
    assert measured.mean[[0, 2]].isnan().all()


def test_does_nothing_before_the_target_was_measured():
    given = case()
    assert painter(ClassIntensities())(given)["image"] is given["image"]


def test_profiles_without_any_class_are_left_out():
    assert holder(profile([NAN, NAN, NAN], [NAN, NAN, NAN])).profiles == []


def test_classes_get_the_target_s_intensities_and_the_rest_its_range():
    given = case()
    known = holder(profile([NAN, 5.0, -3.0], [NAN, 0.5, 0.2], -10.0, 10.0))
    out, label = painter(known, jitter=0.0, blur=0.0).set_random_state(0)(given)["image"], given["label"]
    assert out[label == 1].mean().item() == pytest.approx(5.0, abs=1e-4)
    assert out[label == 2].mean().item() == pytest.approx(-3.0, abs=1e-4)
    assert 0.2 < out[label == 1].std().item() < 1.0
    texture = torch.corrcoef(torch.stack([out[label == 1], given["image"][label == 1]]))[0, 1]
    assert texture.item() == pytest.approx(1.0, abs=1e-4)
    low, high = torch.quantile(given["image"], torch.tensor([0.01, 0.995]))
    expected = (given["image"] - low) / (high - low) * 20 - 10
    torch.testing.assert_close(out[label == 0], expected[label == 0], atol=1e-3, rtol=1e-3)


def test_a_class_that_the_target_lacks_is_mapped_like_the_background():
    given = case()
    out = painter(holder(profile([NAN, 5.0, NAN], [NAN, 0.5, NAN])), blur=0.0)(given)["image"]
    low, high = torch.quantile(given["image"], torch.tensor([0.01, 0.995]))
    chosen = given["label"] == 2
    torch.testing.assert_close(out[chosen], ((given["image"] - low) / (high - low))[chosen], atol=1e-3, rtol=1e-3)


def test_each_channel_has_intensities_of_its_own():
    given = case()
    given["image"] = given["image"].repeat(2, 1, 1, 1)
    both = IntensityProfile(
        torch.zeros(2),
        torch.ones(2),
        torch.tensor([[NAN, NAN], [5.0, -5.0]]),
        torch.tensor([[NAN, NAN], [0.1, 0.1]]),
    )
    given["label"][given["label"] == 2] = 0
    out = painter(holder(both), jitter=0.0, blur=0.0)(given)["image"]
    organ = given["label"][0] == 1
    assert out[0][organ].mean().item() == pytest.approx(5.0, abs=1e-4)
    assert out[1][organ].mean().item() == pytest.approx(-5.0, abs=1e-4)


def test_blur_mixes_borders_and_keeps_the_mean():
    given = case()
    known = holder(profile([NAN, 5.0, 5.0], [NAN, 0.0, 0.0]))
    sharp = painter(known, jitter=0.0, blur=0.0).set_random_state(3)(given)["image"]
    soft = painter(known, jitter=0.0, blur=1 / 3).set_random_state(3)(given)["image"]
    assert soft.std() < sharp.std()
    assert soft[0, 13:15, 13:15, 13:15].mean().item() == pytest.approx(5.0, abs=1e-4)
    assert soft.mean().item() == pytest.approx(sharp.mean().item(), abs=0.02)


def test_same_seed_same_picture():
    known = holder(*(profile([NAN, mean, -mean], [NAN, 0.5, 0.2]) for mean in (1.0, 2.0, 3.0)))
    first, second = (painter(known, 0.8).set_random_state(5)(case())["image"] for _ in range(2))
    assert torch.equal(first, second)


def test_a_label_that_was_not_measured_is_named():
    given = case()
    given["label"][0, 0, 0, 0] = 7
    with pytest.raises(UserError, match="7"):
        painter(holder(profile([NAN, 5.0, -3.0], [NAN, 0.5, 0.2])))(given)
