"""An atlas laid over a body that is turned against those of the source."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from monai_transfer.adaptation import LabelAtlas, anatomy, correct_by_anatomy, correct_new_scan
from monai_transfer.transforms.target import likeliest_class


def body(by: int = 0, *, size: int = 48) -> Tensor:
    """Three organs around the middle, class numbers ``(size, size, size)``."""
    label = torch.zeros(size, size, size, dtype=torch.long)
    label[8 + by : 22 + by, 12:30, 16:30], label[30 + by : 40 + by, 14:24, 18:28] = 1, 2
    label[18 + by : 30 + by, 31:41, 8:18] = 3
    return label


def turned(label: Tensor, degrees: float, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """By SciPy, about the middle of the volume."""
    return torch.from_numpy(ndimage.rotate(label.numpy().astype("u1"), degrees, axes, reshape=False, order=0)).long()


def drawn(label: Tensor, classes: int = 4) -> Tensor:
    """A prediction of a label that leaves every other class a little."""
    return 0.8 * F.one_hot(label, classes).movedim(-1, 0).float() + 0.05


def agreement(label: Tensor, other: Tensor) -> float:
    """Dice of all organs together."""
    same = (label == other) & (label > 0)
    return float(2 * same.sum() / ((label > 0).sum() + (other > 0).sum()))


@pytest.fixture(scope="module")
def atlas() -> LabelAtlas:
    return LabelAtlas([body(by)[None] for by in (-1, 0, 1, 2)], classes=4)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("degrees", [-20, 15])
def test_lies_as_the_body_is_turned(atlas: LabelAtlas, degrees: float, axes: tuple[int, int]) -> None:
    label = turned(body(), degrees, axes)

    place = atlas.places(drawn(label), turn=True)[0]

    assert place.turn is not None
    cosine = (float(place.turn[:, :-1].trace()) - 1) / 2
    assert np.degrees(np.arccos(cosine)) == pytest.approx(abs(degrees), abs=4)
    share = atlas.laid(place, label.shape)
    assert torch.allclose(share.sum(0), torch.ones(label.shape), atol=1e-4)
    assert agreement(likeliest_class(share), label) > 0.9


@pytest.mark.parametrize("degrees", [0, 4])
def test_a_little_is_within_the_blur(atlas: LabelAtlas, degrees: float) -> None:
    assert all(place.turn is None for place in atlas.places(drawn(turned(body(), degrees)), turn=True))


def test_a_place_without_a_turn_is_one_with_a_turn_of_nothing(atlas: LabelAtlas) -> None:
    place = atlas.places(drawn(body(3)), turn=True)[0]
    upright = torch.cat([torch.eye(3), -torch.tensor(place.corner).float()[:, None]], 1)

    turned_by_nothing = atlas.laid(type(place)(place.corner, place.match, upright), (48, 48, 48))

    torch.testing.assert_close(turned_by_nothing, atlas.laid(place, (48, 48, 48)), atol=1e-4, rtol=0)


def test_planes() -> None:
    maps = [label[:, :, 22][None] for label in map(body, (-1, 0, 1, 2))]
    label = turned(body()[:, :, 22], 18)

    place = LabelAtlas(maps, classes=3).places(drawn(label, 3), turn=True)[0]

    assert place.turn is not None
    assert place.turn.shape == (2, 3)
    assert float(place.turn[0, 0]) == pytest.approx(np.cos(np.radians(18)), abs=0.03)


def test_a_match_of_a_turned_body_is_that_of_an_upright_one(atlas: LabelAtlas) -> None:
    upright, place = (atlas.places(drawn(label), turn=True)[0] for label in (body(), turned(body(), 15)))

    assert place.match == pytest.approx(upright.match, rel=0.1)


def test_a_lesion_does_not_turn_it() -> None:
    """A fourth class lies somewhere else in each case."""
    spots = [(2, 2, 2), (40, 3, 40), (3, 42, 30), (42, 42, 6)]
    maps = [body() for _ in spots]
    for label, (x, y, z) in zip(maps, spots, strict=True):
        label[x : x + 4, y : y + 4, z : z + 4] = 4
    atlas = LabelAtlas([label[None] for label in maps], classes=5)
    seen = body()
    seen[2:12, 40:46, 2:12] = 4

    assert atlas.places(drawn(seen, 5), turn=True)[0].turn is None


def test_more_classes_than_turn_an_atlas() -> None:
    """Only small classes are found, of many."""
    label = torch.zeros(48, 48, 16, dtype=torch.long)
    for number in range(16):
        x, y, side = 4 + 11 * (number % 4), 4 + 11 * (number // 4), 8 - number // 4
        label[x : x + side, y : y + side, 4:12] = number + 1
    atlas = LabelAtlas([label[None], label.roll(1, 0)[None], label.roll(2, 0)[None]], classes=17)
    few = torch.where(label > 12, label, 0)

    assert len(atlas.places(drawn(few, 17), turn=True)) >= 1


def test_what_looks_alike_from_everywhere_is_not_turned() -> None:
    """A ball, and a class of which one voxel is found."""
    places = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
    ball = ((places - 15).square().sum(0) < 80).long()
    maps = [ball.roll(by, 0)[None] for by in (-1, 0, 1)]
    dot = torch.zeros_like(ball)
    dot[10, 12, 14] = 1

    for seen in (ball, dot):
        assert all(place.turn is None for place in LabelAtlas(maps, classes=2).places(drawn(seen, 2), turn=True))


def test_it_does_not_turn_after_a_network_that_still_learns(atlas: LabelAtlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are what an atlas has to correct, and labels that are lost on one side look like a turn."""
    asked = []
    laid = LabelAtlas.laid
    monkeypatch.setattr(LabelAtlas, "laid", lambda self, place, shape: asked.append(place) or laid(self, place, shape))
    label = turned(body(), 20)

    for correct in (correct_by_anatomy, correct_new_scan):
        correct(label[None].float(), drawn(label), atlas)

    assert [place.turn is not None for place in asked] == [False, True, True]  # a new scan's is laid twice


def test_right_labels_of_a_turned_body_stay(atlas: LabelAtlas) -> None:
    label = turned(body(1), 25)
    image = torch.tensor([0.0, 1.0, 1.4, 0.7])[label][None] + 0.1 * torch.randn(
        label.shape, generator=torch.Generator().manual_seed(0)
    )
    unsure = drawn(label).pow(0.5)

    corrected = correct_new_scan(image, unsure / unsure.sum(0), atlas)

    assert agreement(likeliest_class(corrected), label) > 0.97


def test_what_only_seems_to_be_turned_is_told_by_the_intensities(
    atlas: LabelAtlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of what lies beside an organ lean as well; then they are parted worse from what surrounds them."""
    label = body()
    leaning = drawn(turned(label, 18))
    image = torch.tensor([0.0, 1.0, 1.4, 0.7])[label][None]
    parted = itertools.chain([0.5, 0.5, 0.9, 0.8], itertools.repeat(0.9))  # each place by two weights
    monkeypatch.setattr(anatomy, "separation", lambda image, labels, classes: torch.tensor(next(parted)))

    corrected = correct_new_scan(image, leaning, atlas)

    assert agreement(likeliest_class(corrected), label) > 0.99  # 0.97 by the turned atlas
