import pytest
import torch
from scipy import ndimage

from monai_transfer.adaptation.anatomy import plausible, size_bounds
from monai_transfer.transforms import ClassIntensities, IntensityProfile
from monai_transfer.transforms.target import AROUND, dilated, likeliest_class, surroundings

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


def test_a_class_of_no_plausible_size_is_left_out():
    image = torch.arange(100.0).reshape(1, 100, 1)
    probabilities = torch.zeros(3, 100, 1)
    probabilities[0, :40] = 1
    probabilities[1, 40:60] = 1
    probabilities[2, 60:] = 1

    def measured(*sizes: float) -> list[bool]:
        believed = plausible(likeliest_class(probabilities), size_bounds(torch.tensor(sizes)))
        profile = IntensityProfile.measure(image, probabilities, believed=believed)
        return profile.mean.isfinite()[:, 0].tolist()

    assert measured(0, 20, 40) == [False, True, True]
    assert measured(0, 32, 16) == [False, True, True]  # 0.625 and 2.5 times the usual size
    assert measured(0, 33, 15) == [False, False, False]
    assert measured(0, 0, 40) == [False, True, True]  # nothing is known of class 1


def test_the_surroundings_are_the_background_within_five_voxels():
    label = torch.zeros(15, 15, dtype=torch.long)
    label[7, 7] = 1
    ring = surroundings(label)
    assert ring.sum() == 11 * 11 - 1
    assert not ring[7, 7]
    image = torch.zeros(1, 15, 15)
    image[0, :8] = 1.0
    probabilities = torch.nn.functional.one_hot(label, 2).movedim(-1, 0).float()
    around = IntensityProfile.measure(image, probabilities).around
    assert around is not None
    bright = 6 * 11 - 1  # rows 2 to 7 of the ring, without the organ itself
    expected = torch.quantile(torch.tensor([0.0] * (120 - bright) + [1.0] * bright), torch.tensor(AROUND))
    torch.testing.assert_close(around[0], expected)


@pytest.mark.parametrize("shape", [(14, 12, 9), (3, 20, 1), (17, 8)])
@pytest.mark.parametrize("by", [0, 1, 2, 3, 5])
def test_a_mask_grows_by_a_box(shape, by):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(by)) > 0.97
    box = ndimage.maximum_filter(mask.numpy(), size=2 * by + 1, mode="constant")
    assert torch.equal(dilated(mask, by), torch.from_numpy(box))


def test_without_a_class_there_are_no_surroundings():
    profile = IntensityProfile.measure(torch.rand(1, 8, 8), torch.tensor([1.0, 0.0])[:, None, None].expand(2, 8, 8))
    assert profile.around is None


def test_profiles_without_any_class_are_left_out():
    intensities = ClassIntensities()
    intensities.renew([IntensityProfile.of_range(torch.rand(1, 4, 4, 4), classes=3)])
    assert intensities.profiles == []


@pytest.mark.parametrize("dim", [0, 1])
def test_the_likeliest_class_is_the_first_of_the_greatest(dim):
    maps = torch.randint(0, 3, (5, 5, 7, 6), generator=torch.Generator().manual_seed(0)).float()  # full of ties
    assert torch.equal(likeliest_class(maps, dim), torch.from_numpy(maps.numpy().argmax(dim)))
