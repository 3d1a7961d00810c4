from dataclasses import replace

import pytest
import torch
from torch import Tensor

from monai_transfer.errors import UserError
from monai_transfer.transforms import ClassIntensities, IntensityProfile, RandClassIntensityd, RandContrastCurve
from monai_transfer.transforms.class_intensity import of_one_kind
from monai_transfer.transforms.target import AROUND, surroundings


def profile(mean: list[float], deviation: list[float], low: float = 0.0, high: float = 1.0) -> IntensityProfile:
    as_column = [torch.tensor(values)[:, None] for values in (mean, deviation)]
    return IntensityProfile(torch.tensor([low]), torch.tensor([high]), *as_column)


def holder(*profiles: IntensityProfile) -> ClassIntensities:
    intensities = ClassIntensities(unknown=0.0)
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


def test_classes_that_are_not_known_get_random_intensities_of_their_own():
    given, label = case(), case()["label"]
    paint = painter(ClassIntensities(unknown=1.0), blur=0.0).set_random_state(0)
    means = []
    for _ in range(40):
        out = paint(given)["image"]
        torch.testing.assert_close(out[label == 0], given["image"][label == 0])
        means.append((out[label == 1].mean().item(), out[label == 2].mean().item()))
    first, second = torch.tensor(means).T
    assert first.min() > 0
    assert first.max() < 1
    assert first.std() > 0.2
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.4


def test_changes_nothing_that_it_is_not_asked_to():
    given = case()
    idle = painter(ClassIntensities(unknown=0.0), blur=0.0)
    torch.testing.assert_close(idle(given)["image"], given["image"])
    resting = painter(holder(profile([NAN, 5.0, 5.0], [NAN, 0.1, 0.1])), prob=0.0)
    torch.testing.assert_close(resting(given)["image"], given["image"])


def test_an_image_that_is_not_painted_goes_through_the_random_curve():
    given = case()
    curved = RandClassIntensityd("image", "label", ClassIntensities(), 0.0, curve=RandContrastCurve(1.0, (3, 5)))
    first, second = (curved.set_random_state(seed)(given)["image"] for seed in (1, 2))
    assert not torch.allclose(first, given["image"])
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(("scanned", "kept"), [(lambda x: 2 * x + 1, True), (lambda x: (x - 0.3).abs(), False)])
def test_an_image_of_one_kind_that_is_not_painted_goes_through_no_random_curve_either(scanned, kept):
    """A curve would take from a network what it may rely on: between two sites dark stays dark."""
    given = noisy_case()
    other = scanned(given["image"])
    known = holder(seen(other, given["label"]))
    curved = RandClassIntensityd("image", "label", known, 0.0, curve=RandContrastCurve(1.0, (3, 5))).set_random_state(0)
    span = float(other.max() - other.min())
    off = [float((curved(given)["image"] - other).abs().mean()) / span for _ in range(60)]
    # two classes leave a quarter of the images to be curved all the same
    assert sum(each < 0.01 for each in off) / 60 == pytest.approx(0.75 if kept else 0.0, abs=0.15)


def test_the_surroundings_come_to_look_like_the_target_s():
    """Most of what lies around the organ is dark; in the target most of it is bright."""
    label = torch.zeros(1, 20, 20, 20, dtype=torch.uint8)
    label[:, 8:12, 8:12, 8:12] = 1
    image = torch.full((1, 20, 20, 20), 0.1)
    image[:, :, :, 14:] = 1.0
    image[:, :2] = 0.0  # air, far away
    image[label == 1] = 0.5
    ring = surroundings(label[0])
    dark = float((image[0][ring] < 0.5).float().mean())
    assert 0.6 < dark < 0.9
    quantiles = torch.tensor(AROUND)
    around = torch.where(quantiles < 1 - dark, 0.0, 1.0)[None]
    known = profile([NAN, 0.5], [NAN, 0.01])
    opposite = IntensityProfile(known.low, known.high, known.mean, known.deviation, around)
    fit = painter(holder(opposite), blur=0.0, candidates=64).set_random_state(0)
    outs = [fit({"image": image, "label": label})["image"] for _ in range(10)]
    contrast = [
        float(out[0][ring & (image[0] == 0.1)].median() - out[0][ring & (image[0] == 1)].median()) for out in outs
    ]
    assert min(contrast) > 0.3


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
    expected = ((given["image"] - low) / (high - low)).clamp(0, 1) * 20 - 10
    torch.testing.assert_close(out[label == 0], expected[label == 0], atol=1e-3, rtol=1e-3)


def test_a_class_that_the_target_lacks_may_be_mapped_like_the_background():
    given = case()
    out = painter(holder(profile([NAN, 5.0, NAN], [NAN, 0.5, NAN])), blur=0.0)(given)["image"]
    low, high = torch.quantile(given["image"], torch.tensor([0.01, 0.995]))
    chosen = given["label"] == 2
    torch.testing.assert_close(out[chosen], ((given["image"] - low) / (high - low))[chosen], atol=1e-3, rtol=1e-3)


def seen(image: torch.Tensor, label: torch.Tensor, classes: int = 3) -> IntensityProfile:
    """How a network that is always right sees an image."""
    return IntensityProfile.measure(image, torch.nn.functional.one_hot(label[0].long(), classes).movedim(-1, 0).float())


def noisy_case() -> dict[str, torch.Tensor]:
    given = case()
    given["image"] = given["image"] + 0.05 * torch.randn(given["image"].shape, generator=torch.manual_seed(0))
    return given


@pytest.mark.parametrize(
    ("scanned", "kept"),
    [
        (lambda image, label: image, True),
        (lambda image, label: 0.5 * image + 3, True),
        (lambda image, label: image + 0.4 * (label == 2), False),  # one organ is of another brightness
        (lambda image, label: torch.where(label == 0, 0.5 * image, image), False),  # what surrounds them is
    ],
)
def test_an_image_of_one_kind_with_the_target_keeps_its_tissues(scanned, kept):
    given = noisy_case()
    other = scanned(given["image"], given["label"])
    paint = painter(holder(seen(other, given["label"]))).set_random_state(0)
    span = float(other.max() - other.min())
    off = [float((paint(given)["image"] - other).abs().mean()) / span for _ in range(60)]
    # two classes leave a quarter of the images to be painted all the same
    assert sum(each < 0.01 for each in off) / 60 == pytest.approx(0.75 if kept else 0.0, abs=0.15)


def test_each_channel_has_intensities_of_its_own():
    given = case()
    given["image"] = given["image"].repeat(2, 1, 1, 1)
    both = IntensityProfile(
        torch.zeros(2), torch.ones(2), torch.tensor([[NAN, NAN], [5.0, -5.0]]), torch.tensor([[NAN, NAN], [0.1, 0.1]])
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


def test_impossible_options_are_refused():
    for options in ({"blur": 0.5}, {"candidates": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            painter(ClassIntensities(), **options)


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """A ramp with noise, in which two organs have intensities of their own; label and surroundings."""
    label = torch.zeros(24, 24, 24, dtype=torch.long)
    label[3:9, 3:9, 3:9] = 1
    label[13:21, 13:21, 13:21] = 2
    image = torch.linspace(0, 1, 24).expand(1, 24, 24, 24) + 0.4 * (label == 1) + 0.1 * (label == 2)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return image + 0.03 * noise, label, surroundings(label)


@pytest.mark.parametrize(
    "scanner",
    [
        lambda image: 100 * image + 20,
        lambda image: image.clamp(min=0) ** 0.5,
        lambda image: torch.where(image > 0.6, 2 * image - 0.6, image),
    ],
    ids=["gain", "power", "bright tissue brighter"],
)
def test_an_image_of_another_scanner_gets_its_contrast(scanner) -> None:
    image, label, ring = scene()
    other = scanner(image)
    found, classes = of_one_kind(image, label, ring, seen(other, label[None]))
    assert classes == 2
    assert float((found - other).abs().mean()) < 0.02 * float(other.max() - other.min())


@pytest.mark.parametrize(
    "modality",
    [lambda image, label: -image, lambda image, label: image - 0.8 * (label == 1) + 0.5 * (label == 2)],
    ids=["inverted", "organs of another brightness"],
)
def test_an_image_of_another_modality_is_of_another_kind(modality) -> None:
    image, label, ring = scene()
    assert of_one_kind(image, label, ring, seen(modality(image, label), label[None]))[1] == 0


def test_it_is_asked_of_the_classes_that_were_found() -> None:
    image, label, ring = scene()
    known = seen(image**2, label[None])
    for lost, told in ([], 2), ([2], 1), ([1, 2], 0):
        mean = known.mean.clone()
        mean[lost] = torch.nan
        assert of_one_kind(image, label, ring, replace(known, mean=mean))[1] == told


def test_an_image_without_labels_says_nothing() -> None:
    image, label, _ = scene()
    nothing = torch.zeros_like(label)
    assert of_one_kind(image, nothing, surroundings(nothing), seen(image, label[None]))[1] == 0


def test_flat_surroundings_and_flat_classes_are_no_division_by_zero() -> None:
    image, label, ring = scene()
    flat = torch.where(ring, 0.3, torch.where(label > 0, label.float(), image))
    for target in (image, flat):
        assert bool(of_one_kind(flat, label, ring, seen(target, label[None]))[0].isfinite().all())
