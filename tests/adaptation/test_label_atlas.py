"""Where labels lie beside each other."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_transfer.adaptation import LabelAtlas
from monai_transfer.adaptation.aligned_maps import laid_in
from monai_transfer.adaptation.atlas_file import atlas_of_tensors, atlas_tensors


def organs(shift: tuple[int, ...] = (0, 0, 0), *, size: int = 32, without: int = 0) -> Tensor:
    """A large class, a small one to its right, and one below both."""
    label = torch.zeros(1, size, size, size, dtype=torch.long)
    corners = {1: ((6, 8, 14), (8, 8, 8)), 2: ((18, 9, 15), (4, 4, 5)), 3: ((12, 10, 6), (5, 5, 5))}
    for number, (corner, extent) in corners.items():
        if number != without:
            place = [slice(at + by, at + by + length) for at, by, length in zip(corner, shift, extent, strict=True)]
            label[0, place[0], place[1], place[2]] = number
    return label


def one_hot(label: Tensor, classes: int = 4) -> Tensor:
    return F.one_hot(label[0], classes).movedim(-1, 0).float()


def unsure(label: Tensor) -> Tensor:
    """A prediction of a label that leaves every other class a little."""
    return 0.8 * one_hot(label) + 0.05


def laid(atlas: LabelAtlas, probabilities: Tensor) -> Tensor:
    return atlas.laid(atlas.places(probabilities)[0], probabilities.shape[1:])


def correct(atlas: LabelAtlas, probabilities: Tensor, *, weight: float = 0.7) -> Tensor:
    return atlas.correct(probabilities, laid(atlas, probabilities), weight=weight)


SOURCE = [organs(), organs((2, 0, -1)), organs((-1, 3, 2)), organs((0, -2, 1))]


@pytest.fixture(scope="module")
def atlas() -> LabelAtlas:
    return LabelAtlas(SOURCE, classes=4)


def test_subjects_who_differ_by_a_shift_alone_lie_over_one_another(atlas: LabelAtlas) -> None:
    assert atlas.sigma == 1.0
    assert atlas.usual.tolist() == [8**3, 4 * 4 * 5, 5**3]
    # the middle of each organ is that organ in every case; only the blur takes a little
    assert all(float(share.max()) > 0.6 for share in atlas.share)


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 2, 1), (5, 3, -4), (-4, -7, 9)])
def test_lies_over_a_prediction_wherever_that_is(atlas: LabelAtlas, shift: tuple[int, ...]) -> None:
    label = organs(shift)
    share = laid(atlas, one_hot(label))
    assert torch.allclose(share.sum(0), torch.ones(32, 32, 32), atol=1e-5)
    for number in (1, 2, 3):
        assert float(share[number][label[0] == number].mean()) > 10 * float(share[number][label[0] == 0].mean())


def test_a_prediction_that_fits_is_left_as_it_is(atlas: LabelAtlas) -> None:
    label = organs((3, -2, 1))
    assert torch.equal(correct(atlas, unsure(label)).argmax(0), label[0])


def test_a_class_in_the_wrong_place_is_taken_away(atlas: LabelAtlas) -> None:
    label = organs()
    prediction = label.clone()
    prediction[0, 26:30, 24:28, 0:4] = 2
    corrected = correct(atlas, 0.6 * one_hot(prediction) + 0.4 * one_hot(torch.zeros_like(label)))
    assert not bool((corrected.argmax(0)[26:30, 24:28, 0:4] == 2).any())


def test_a_lost_class_is_proposed_where_it_should_be(atlas: LabelAtlas) -> None:
    label = organs((1, 1, 1))
    corrected = correct(atlas, unsure(organs((1, 1, 1), without=2))).argmax(0)
    found = corrected == 2
    assert bool(found.any())
    assert float((label[0][found] == 2).float().mean()) > 0.8
    assert torch.equal(corrected == 1, label[0] == 1)


def test_says_which_classes_are_lost(atlas: LabelAtlas) -> None:
    assert atlas.lost(one_hot(organs())).tolist() == []
    assert atlas.lost(one_hot(organs(without=3))).tolist() == [3]


def test_a_missing_organ_moves_no_case() -> None:
    whole = LabelAtlas(SOURCE, classes=4)
    without = LabelAtlas([*SOURCE[:3], organs((0, -2, 1), without=1)], classes=4)
    # the share of the others is not smeared by the case that lacks the large organ
    assert torch.allclose(whole.share[1].max(), without.share[1].max(), atol=0.02)
    assert without.usual.tolist() == whole.usual.tolist()


def test_without_any_foreground_there_is_no_place(atlas: LabelAtlas) -> None:
    assert atlas.places(one_hot(torch.zeros(1, 16, 16, 16, dtype=torch.long))) == []


def test_two_layouts_are_two_places_and_half_a_one_is_none(atlas: LabelAtlas) -> None:
    both = torch.cat([organs(), organs((2, 1, 0))], -1)
    places = atlas.places(one_hot(both))
    assert len(places) == 2
    assert abs(places[0].corner[2] - places[1].corner[2]) == 32
    assert all(0.7 < place.match < 1.1 for place in places)
    third = torch.cat([organs(), organs(without=1) * (organs() == 2)], -1)  # the small organ alone
    assert len(atlas.places(one_hot(third))) == 1


def test_a_match_is_the_mean_share_of_a_class_that_is_found_where_it_is_expected(atlas: LabelAtlas) -> None:
    """Also where the atlas sticks out of the volume, and whatever else of the body that shows."""
    cut = organs((-9, 0, 0))
    worth = ((atlas.share + 1e-4) / 1e-4).log() / math.log(1e4)
    for label in (cut, F.pad(cut, (7, 30, 0, 11, 0, 25))):
        (place,) = atlas.places(one_hot(label))
        found = one_hot(label)[1:] / torch.tensor([8.0**3, 80.0, 125.0])[:, None, None, None] / 3
        assert place.match == pytest.approx(float((found * laid_in(label.shape[1:], worth, place.corner)).sum()))


def test_weight_0_leaves_the_prediction_alone(atlas: LabelAtlas) -> None:
    probabilities = unsure(organs((2, 2, 2)))
    probabilities = probabilities / probabilities.sum(0)
    assert torch.allclose(correct(atlas, probabilities, weight=0.0), probabilities, atol=1e-5)


def test_two_dimensions_and_volumes_smaller_than_the_atlas(atlas: LabelAtlas) -> None:
    flat = LabelAtlas([label[:, :, :, 16] for label in SOURCE], classes=4)
    label = organs()[:, :, :, 16]
    assert torch.equal(correct(flat, unsure(label)).argmax(0), label[0])
    part = organs()[:, 10:24, 6:16, 4:20]
    assert torch.equal(correct(atlas, unsure(part)).argmax(0), part[0])


def test_varied_subjects_get_a_wider_blur() -> None:
    generator = torch.Generator().manual_seed(0)
    varied = []
    for _ in range(6):
        label = torch.zeros(1, 36, 36, 36, dtype=torch.long)
        for number, corner in ((1, 8), (2, 19)):
            x, y, z = (corner + torch.randint(-4, 5, (3,), generator=generator)).tolist()
            label[0, x : x + 9, y : y + 9, z : z + 9] = number
        varied.append(label)
    atlas = LabelAtlas(varied, classes=3)
    assert atlas.placed.tolist() == [True, True]
    assert atlas.sigma > LabelAtlas(SOURCE, classes=4).sigma


def test_no_class_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds a class"):
        LabelAtlas([torch.zeros(1, 8, 8, 8, dtype=torch.long)], classes=2)


def test_kept_as_tensors_an_atlas_corrects_the_same(atlas: LabelAtlas) -> None:
    kept = atlas_of_tensors(atlas_tensors(atlas))
    label = organs((5, 3, -4))
    share = laid(kept, unsure(label))
    assert torch.allclose(share, laid(atlas, unsure(label)), atol=1e-3)
    assert torch.allclose(kept.correct(unsure(label), share, weight=0.7), correct(atlas, unsure(label)), atol=1e-2)
    assert kept.usual.tolist() == atlas.usual.tolist()


@pytest.mark.parametrize(
    "changed",
    [
        {"share": torch.zeros(3)},
        {"usual": torch.ones(2)},
        {"share": torch.full((3, 4, 4, 4), 2.0)},
        {"share": torch.full((3, 4, 4, 4), torch.nan)},
        {"sigma": torch.ones(2)},
        {"share": torch.zeros(3, 4, 4, 4, dtype=torch.complex64)},
        {"usual": torch.ones(3, dtype=torch.long)},
    ],
)
def test_other_tensors_are_no_atlas(atlas: LabelAtlas, changed: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="no atlas"):
        atlas_of_tensors({**atlas_tensors(atlas), **changed})


def with_lesion(place: tuple[int, int, int] | None, shift: tuple[int, ...] = (0, 0, 0)) -> Tensor:
    """The organs, and a fourth class of 27 voxels at a place."""
    label = organs(shift)
    if place is not None:
        x, y, z = place
        label[0, x : x + 3, y : y + 3, z : z + 3] = 4
    return label


ANYWHERE = [(7, 9, 15), (10, 12, 18), (20, 20, 25), None, (2, 25, 3), (25, 3, 10)]


def test_a_lesion_has_no_place_and_is_not_taken_away_for_lying_anywhere() -> None:
    atlas = LabelAtlas([with_lesion(place) for place in ANYWHERE], classes=5)
    assert atlas.placed.tolist() == [True, True, True, False]
    label = with_lesion((25, 25, 25))
    prediction = 0.6 * one_hot(label, 5) + 0.4 * one_hot(organs(), 5)
    assert torch.equal(correct(atlas, prediction).argmax(0), label[0])
    # nor is one proposed where the network finds none
    assert not bool((correct(atlas, unsure_of(organs(), 5)).argmax(0) == 4).any())
    assert atlas.lost(one_hot(organs(), 5)).tolist() == []


def unsure_of(label: Tensor, classes: int) -> Tensor:
    return 0.75 * one_hot(label, classes) + 0.05


def test_lesions_alone_lay_no_atlas() -> None:
    scattered = [(label == 4).long() for label in (with_lesion(place) for place in ANYWHERE)]
    pairs = [
        torch.maximum(first, second) for first, second in zip(scattered, scattered[2:] + scattered[:2], strict=True)
    ]
    atlas = LabelAtlas(pairs, classes=2)
    assert atlas.placed.tolist() == [False]
    assert atlas.places(one_hot(pairs[0], 2)) == []


def test_an_organ_that_ends_at_the_border_may_go_on_where_more_is_seen() -> None:
    source = torch.zeros(1, 16, 16, 12, dtype=torch.long)
    source[0, 6:9, 6:9] = 1  # through all slices
    source[0, 11:14, 4:8, 4:8] = 2
    atlas = LabelAtlas([source, source.roll(1, 1), source.roll(-1, 2)], classes=3)
    assert atlas.reach.isfinite().tolist() == [[[False] * 2, [False] * 2, [True] * 2], [[False] * 2] * 3]
    target = torch.zeros(1, 16, 16, 40, dtype=torch.long)
    target[0, 6:9, 6:9] = 1
    target[0, 11:14, 4:8, 18:22] = 2
    prediction = target.clone()
    prediction[0, 11:14, 4:8, 32:36] = 2  # the other organ was seen to its end, and is not up there
    corrected = correct(atlas, 0.7 * one_hot(prediction, 3) + 0.3 * one_hot(torch.zeros_like(target), 3)).argmax(0)
    assert torch.equal(corrected, target[0])


def test_of_organs_beside_lesions_the_organs_align_the_maps() -> None:
    """One organ and one lesion: the median of two centroids is as often the lesion's."""
    lesions = [(1, 1), (18, 2), (2, 18), (19, 19), (10, 1)]
    labels = []
    for number, (x, y) in enumerate(lesions):
        label = torch.zeros(1, 24, 24, dtype=torch.long)
        label[0, 8:15, 9 + number % 2 : 15 + number % 2], label[0, x : x + 3, y : y + 3] = 1, 2
        labels.append(label)
    atlas = LabelAtlas(labels, classes=3)
    assert atlas.placed.tolist() == [True, False]
    assert float(atlas.share[0].max()) > 0.95


def test_a_thin_class_keeps_its_size_where_it_may_lie() -> None:
    """Of a sheet of one voxel, which lies a little elsewhere in every case, the atlas has small shares everywhere."""

    def body(by: int) -> Tensor:
        label = torch.zeros(1, 24, 24, 24, dtype=torch.long)
        label[0, 4:20, 4:20, 4:20], label[0, 6:18, 6:18, 11 + by] = 1, 2
        return label

    atlas = LabelAtlas([body(by) for by in (-1, 0, 0, 1)], classes=3)
    assert float(atlas.share[1].max()) < 0.4
    label = body(1)
    label[0, 0:2, 0:5, 0:5] = 2

    found = correct(atlas, 0.5 * one_hot(label, 3) + 0.5 / 3, weight=1.4).argmax(0)

    assert float((found[6:18, 6:18, 12] == 2).float().mean()) > 0.9
    assert not bool((found[:2] == 2).any())  # where it cannot lie it is taken away all the same
