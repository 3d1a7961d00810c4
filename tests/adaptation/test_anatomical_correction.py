"""Corrections of a prediction by the source's anatomy and by intensities."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_transfer.adaptation import LabelAtlas, anatomy, correct_by_anatomy, correct_new_scan, separation
from monai_transfer.adaptation import refine_probabilities as refine
from monai_transfer.adaptation.label_atlas import Place


def one_hot(label: Tensor, classes: int = 3) -> Tensor:
    return F.one_hot(label[0], classes).movedim(-1, 0).float()


def organs() -> Tensor:
    label = torch.zeros(1, 24, 24, 24, dtype=torch.long)
    label[0, 4:12, 6:14, 8:16] = 1
    label[0, 15:19, 8:12, 10:15] = 2
    return label


@pytest.fixture(scope="module")
def atlas() -> LabelAtlas:
    return LabelAtlas([organs()] * 3, classes=3)


def test_separation_of_flat_regions_by_hand() -> None:
    label = torch.zeros(20, 20, dtype=torch.long)
    label[5:15, 5:15] = 1
    bright = torch.where(label == 1, 1.0, 0.0)[None]
    assert separation(bright, label, 3).tolist() == [1.0, 0.0]  # class 2 is absent
    assert separation(torch.zeros(1, 20, 20), label, 2).tolist() == [0.0]
    # half of the class as bright as its rim: half of its histogram lies over the rim's
    half = bright.clone()
    half[:, 5:10, 5:15] = 0.0
    assert separation(half, label, 2)[0] == pytest.approx(0.5, abs=1e-6)
    # channels count alike
    assert separation(torch.cat([bright, half]), label, 2)[0] == pytest.approx(0.75, abs=1e-6)


def test_of_two_layouts_the_one_with_borders_in_the_image_is_taken(atlas: LabelAtlas) -> None:
    twice = torch.cat([organs(), organs()], -1)
    noise = 0.1 * torch.randn(1, 24, 24, 48, generator=torch.Generator().manual_seed(0))
    image = torch.where(torch.cat([torch.zeros_like(organs()), organs()], -1) > 0, 1.0, 0.0) + noise
    # the network is surer of the layout that is nothing but its own idea
    probabilities = 0.9 * one_hot(twice) + 0.1 / 3
    probabilities[:, :, :, 24:] = 0.8 * one_hot(organs()) + 0.2 / 3
    corrected = correct_by_anatomy(image, probabilities, atlas)
    label = corrected.argmax(0)
    assert not bool((label[:, :, :22] > 0).any())
    assert float((label[:, :, 24:] == organs()[0]).float().mean()) > 0.99


def test_a_lost_class_comes_back(atlas: LabelAtlas) -> None:
    image = organs().float() + 0.1 * torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    without = organs().masked_fill(organs() == 2, 0)
    corrected = correct_by_anatomy(image, 0.9 * one_hot(without) + 0.1 / 3, atlas)
    found, truth = corrected.argmax(0) == 2, organs()[0] == 2
    assert 2 * float((found & truth).sum()) / float(found.sum() + truth.sum()) > 0.9


def test_an_empty_prediction_stays_empty(atlas: LabelAtlas) -> None:
    nothing = one_hot(torch.zeros(1, 16, 16, 16, dtype=torch.long))
    corrected = correct_by_anatomy(torch.rand(1, 16, 16, 16), nothing, atlas)
    assert torch.equal(corrected, nothing)


def test_where_a_body_may_lack_an_organ_none_is_proposed(atlas: LabelAtlas) -> None:
    image = organs().float() + 0.1 * torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    without = organs().masked_fill(organs() == 2, 0)
    corrected = correct_new_scan(image, 0.9 * one_hot(without) + 0.1 / 3, atlas)
    assert not bool((corrected.argmax(0) == 2).any())
    assert float(((corrected.argmax(0) == 1) == (organs()[0] == 1)).float().mean()) > 0.99


def test_of_two_tissues_called_by_one_name_the_one_in_its_place_is_measured(atlas: LabelAtlas) -> None:
    """The greater part of what the network calls class 2 lies beside it, and is of another intensity."""
    beside = torch.zeros_like(organs(), dtype=torch.bool)
    beside[0, 14:21, 7:14, 18:] = True
    image = torch.where(beside, 1.4, organs().float())
    image += 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    probabilities = 0.9 * one_hot(organs().masked_fill(beside, 2)) + 0.1 / 3
    corrected = correct_new_scan(image, probabilities, atlas)
    assert torch.equal(corrected.argmax(0) == 2, organs()[0] == 2)


def test_of_a_new_scan_the_atlas_is_laid_again_where_corrected_labels_move_it(
    atlas: LabelAtlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = organs().float() + 0.1 * torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    probabilities = 0.9 * one_hot(organs()) + 0.1 / 3
    right = atlas.places(probabilities)[0]
    beside = Place((right.corner[0] + 3, *right.corner[1:]), right.match)

    def corrected(*laid: Place) -> tuple[Tensor, int]:
        at, refined = iter(laid), []
        with monkeypatch.context() as patched:
            patched.setattr(LabelAtlas, "places", lambda self, labels, turn: [next(at)])
            patched.setattr(anatomy, "refine_probabilities", lambda *each: refined.append(1) or refine(*each))
            return correct_new_scan(image, probabilities, atlas), len(refined)

    alone, once = corrected(right, right)
    moved, twice = corrected(beside, right)

    assert (once, twice) == (2, 4)  # by two weights each
    assert torch.equal(moved, alone)


def with_lesion(corner: tuple[int, int, int]) -> Tensor:
    """The organs, and within the first of them a lesion of 64 voxels."""
    label = organs()
    x, y, z = corner
    label[0, x : x + 4, y : y + 4, z : z + 4] = 3
    return label


@pytest.mark.parametrize("correct", [correct_by_anatomy, correct_new_scan])
def test_a_lesion_that_looks_like_its_organ_is_none(correct: Callable[..., Tensor]) -> None:
    corners = [(4, 6, 8), (8, 10, 12), (4, 10, 8), (8, 6, 12), (4, 6, 12)]
    atlas = LabelAtlas([with_lesion(corner) for corner in corners], classes=4)
    assert atlas.placed.tolist() == [True, True, False]
    drawn = with_lesion((6, 8, 10))
    noise = 0.1 * torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    imagined = correct((organs() > 0) + noise, 0.9 * one_hot(drawn, 4) + 0.1 / 4, atlas)
    assert torch.equal(imagined.argmax(0), organs()[0])  # the organ, and no hole in it
    torch.testing.assert_close(imagined.sum(0), torch.ones(24, 24, 24))
    seen = correct((organs() > 0).float() - 0.5 * (drawn == 3) + noise, 0.9 * one_hot(drawn, 4) + 0.1 / 4, atlas)
    assert float((seen.argmax(0) == drawn[0]).float().mean()) > 0.999


def test_a_lesion_outside_of_the_organ_where_lesions_lie_is_none() -> None:
    """As plain to be seen as the true one beside it."""
    maps = [with_lesion(corner) for corner in [(4, 6, 8), (8, 10, 12), (4, 10, 8), (8, 6, 12), (4, 6, 12)]]
    atlas = LabelAtlas(maps, classes=4)
    truth = with_lesion((6, 8, 10))
    drawn = truth.clone()
    drawn[0, 16:20, 16:20, 3:7] = 3
    noise = 0.1 * torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    image = (organs() > 0).float() + 1.0 * (drawn == 3) + noise
    probabilities = 0.9 * one_hot(drawn, 4) + 0.1 / 4
    assert bool((correct_new_scan(image, probabilities, atlas).argmax(0)[14:, 14:] == 3).any())
    atlas.learn_lesions(maps)
    label = correct_new_scan(image, probabilities, atlas).argmax(0)
    assert not bool((label[14:, 14:] == 3).any())
    assert float(((label == 3) == (truth[0] == 3)).float().mean()) > 0.999
