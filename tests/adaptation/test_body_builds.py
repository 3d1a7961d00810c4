"""How much bodies differ in build."""

import math

import pytest
import torch
from torch import Tensor

from monai_transfer.adaptation import stretch_by_builds


def case(*lengths: int, second: int = 0) -> dict[str, Tensor]:
    """A box of the class 1, and a cube of the class 2 if ``second`` says of which side."""
    label = torch.zeros(1, 60, 60, 60)
    label[0, : lengths[0], : lengths[1], : lengths[2]] = 1
    label[0, 60 - second :, 60 - second :, 60 - second :] = 2
    return {"label": label}


def deviation(length: int) -> float:
    """Standard deviation of the places 0, 1, … of a side."""
    return math.sqrt(sum((at - (length - 1) / 2) ** 2 for at in range(length)) / length)


def test_it_is_twice_the_relative_deviation_of_the_lengths() -> None:
    sides = (20, 22, 24)
    # the box differs along one axis of three; the deviation of three values is that of their median's neighbours
    logs = [math.log(deviation(side)) for side in sides]
    expected = 2 * 1.4826 * sorted(abs(value - logs[1]) for value in logs)[1] / 3
    assert stretch_by_builds([case(side, 20, 20) for side in sides]) == pytest.approx(expected, rel=0.02)


def test_bodies_that_are_alike_are_not_stretched() -> None:
    assert stretch_by_builds([case(20, 20, 20)] * 5) == 0.0


def test_it_has_a_most() -> None:
    assert stretch_by_builds([case(side, side, side) for side in (10, 20, 40, 50)]) == 0.3


def test_a_class_that_few_cases_have_and_few_cases_say_nothing() -> None:
    rare = [case(20, 20, 20, second=side) for side in (5, 20, 0, 0)]
    assert stretch_by_builds(rare) == 0.0
    assert stretch_by_builds([case(10, 10, 10), case(30, 30, 30)]) == 0.0
    assert stretch_by_builds([]) == 0.0
