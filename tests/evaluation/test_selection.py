"""Constructed networks: collapsed, random, empty, good."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from monai_transfer.evaluation import LabelFreeScores, SourceSizes, choose_network, label_free_scores

CLASSES = 3
SIZES = SourceSizes((0.5, 1.0), {1: 0.512, 2: 0.216})
"""Of cubes of 8 and 6 voxels of 1 mm."""


def _image(seed: int) -> Tensor:
    """Background 0, a cube of 1 and a smaller cube of 2, with noise."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.1 * torch.randn(1, 1, 24, 24, 24, generator=generator)
    image[..., 2:10, 3:11, 4:12] += 1
    image[..., 14:20, 12:18, 11:17] += 2
    return image


def good(image: Tensor) -> Tensor:
    """Logits by the distance of the intensity to each class's."""
    return torch.cat([-10 * (image - value).square() for value in range(CLASSES)], dim=1)


def blurred(image: Tensor) -> Tensor:
    """Right, but hesitating, and with class 2 too small."""
    logits = 0.3 * good(image)
    logits[:, 2] -= 0.5
    return logits


def collapsed(image: Tensor) -> Tensor:
    """Certain of background everywhere."""
    return torch.cat([torch.full_like(image, 9.0), *[torch.full_like(image, -9.0)] * (CLASSES - 1)], dim=1)


def random(image: Tensor) -> Tensor:
    """A random function of the intensity and the place."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, CLASSES, *image.shape[2:], generator=generator) + image


def dreaming(image: Tensor) -> Tensor:
    """The labels of one image, whatever is shown."""
    return good(_image(0)).expand(image.shape[0], -1, -1, -1, -1)


def _scores(predict, **options) -> LabelFreeScores:
    return label_free_scores(predict, [_image(0), _image(1)], voxel_ml=0.001, sizes=SIZES, **options)


def test_the_scores_of_a_good_and_a_collapsed_network() -> None:
    best, worst = _scores(good), _scores(collapsed)
    assert best.foreground_ml == pytest.approx(0.728, abs=0.01)
    assert best.size == pytest.approx(0.0, abs=0.05)
    assert best.agreement > 0.9
    assert (worst.foreground_ml, worst.size) == (0.0, -6.0)
    assert worst.information == pytest.approx(0.0, abs=1e-4)
    assert best.information > 0.2


@pytest.mark.parametrize("broken", [collapsed, random])
def test_a_broken_adapted_network_loses(broken) -> None:
    choice = choose_network(_scores(broken), _scores(blurred), SIZES)
    assert choice.kept == "source_only"
    assert "ml of foreground" in choice.reason


def test_a_network_that_does_not_look_loses() -> None:
    """Its labels have the right sizes, and it is certain of them."""
    choice = choose_network(_scores(dreaming), _scores(blurred), SIZES)
    assert (choice.adapted.scrambled, choice.kept) == (1.0, "source_only")
    assert choice.source_only.scrambled < 0.5
    assert "scrambled" in choice.reason
    assert choose_network(_scores(dreaming), _scores(dreaming), SIZES).kept == "adapted"


@pytest.mark.parametrize("floor", [collapsed, random, blurred])
def test_a_good_adapted_network_is_kept(floor) -> None:
    assert choose_network(_scores(good), _scores(floor), SIZES).kept == "adapted"


def test_a_network_without_numbers_loses_even_to_an_empty_one() -> None:
    adapted = _scores(lambda image: good(image) * math.nan)
    assert choose_network(adapted, _scores(collapsed), SIZES).kept == "source_only"


def test_in_doubt_the_adapted_network_is_kept() -> None:
    floor = _scores(good, source_validation=0.8)
    less_certain = replace(floor, information=0.1 * floor.information, density=0.1 * floor.density)
    assert choose_network(less_certain, floor, SIZES).kept == "adapted"
    assert choose_network(replace(less_certain, size=-2.0), floor, SIZES).kept == "source_only"
    assert choose_network(replace(floor, source_validation=0.1), floor, SIZES).kept == "adapted"
    assert choose_network(replace(floor, size=-2.0, source_validation=0.1), floor, SIZES).kept == "adapted"
    assert "neither" in choose_network(_scores(collapsed), _scores(collapsed), SIZES).reason


def test_the_choice_is_json_ready() -> None:
    record = choose_network(_scores(good), _scores(collapsed), SIZES).as_dict()
    assert record["kept"] == "adapted"
    assert record["scores"]["adapted"]["source_validation"] is None


def test_no_images_no_scores() -> None:
    with pytest.raises(ValueError, match="no images"):
        label_free_scores(good, [], voxel_ml=1.0, sizes=SIZES)
