"""How lesions lie in label maps, and which of a prediction lie otherwise."""

import torch
from torch import Tensor

from monai_transfer.adaptation.lesions import lesion_habits, stray_pieces

PLACED = torch.tensor([True, True, False])


def body(*lesions: tuple[int, int, int]) -> Tensor:
    """An organ 1 of 12 rows beside an organ 2 of 12, and square lesions 3 with their corners and sizes."""
    label = torch.zeros(1, 30, 20, dtype=torch.long)
    label[0, 3:15, 2:18], label[0, 15:27, 2:18] = 1, 2
    for x, y, size in lesions:
        label[0, x : x + size, y : y + size] = 3
    return label


def test_habits_by_hand() -> None:
    # rims of 16 and of 20 voxels; of the second, 6 lie in the other organ
    inside, at_the_border = body((6, 6, 3)), body((11, 6, 4))
    one = lesion_habits([inside], PLACED)
    assert one.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 9]]
    both = lesion_habits([inside, at_the_border], PLACED)[2]
    shares = torch.tensor([14 / 20, 1.0])
    torch.testing.assert_close(both[1], torch.quantile(shares, 0.1))
    torch.testing.assert_close(both[2], torch.quantile(torch.tensor([9.0, 16.0]), 0.1))


def test_of_the_smallest_the_rim_says_nothing() -> None:
    # one voxel between both organs is a piece, and its rim half of the wrong one
    habits = lesion_habits([body((6, 6, 4), (14, 4, 1), (8, 14, 3))], PLACED)[2]
    assert habits[:2].tolist() == [1, 1]
    torch.testing.assert_close(habits[2], torch.quantile(torch.tensor([1.0, 9.0, 16.0]), 0.1))


def test_voxels_that_touch_by_a_corner_are_one_piece() -> None:
    label = body((6, 6, 2), (8, 8, 2))
    assert lesion_habits([label], PLACED)[2].tolist() == [1, 1, 8]


def test_what_lies_in_something_else_or_is_far_smaller_strays() -> None:
    habits = lesion_habits([body((6, 6, 4))] * 3, PLACED)
    drawn = body((5, 4, 4), (20, 6, 4), (9, 13, 1))[0]  # the last of 1 voxel of 16
    stray = stray_pieces(drawn, habits, PLACED)
    expected = torch.zeros_like(drawn, dtype=torch.bool)
    expected[20:24, 6:10] = expected[9, 13] = True
    assert torch.equal(stray[3], expected)
    assert not bool(stray[:3].any())


def test_smaller_and_with_a_border_a_voxel_off_are_believed() -> None:
    habits = lesion_habits([body((6, 6, 4))] * 3, PLACED)
    smaller = body((6, 6, 2))[0]  # 4 of 16 voxels
    assert not bool(stray_pieces(smaller, habits, PLACED).any())
    touching = body((6, 6, 4))[0]
    touching[5, 6] = 0  # one voxel of a rim of 20
    assert not bool(stray_pieces(touching, habits, PLACED).any())


def test_what_lies_in_no_organ_may_lie_beside_one() -> None:
    """Lesions of white matter, which has no label: one beside the ventricle is as likely as any."""
    away = body((28, 18, 2))
    habits = lesion_habits([away], PLACED)
    assert habits[2].tolist() == [0, 0, 4]
    assert not bool(stray_pieces(body((0, 4, 3))[0], habits, PLACED).any())


def test_enclosed_by_more_than_any_of_the_source_is_believed() -> None:
    """At a corner of its organ a lesion lies in the background for the most part, and is the organ's all the same."""
    habits = lesion_habits([body((2, 1, 4)), body((2, 15, 4))], PLACED)
    assert float(habits[2, 0]) == 1
    assert float(habits[2, 1]) < 0.5
    assert not bool(stray_pieces(body((6, 6, 4))[0], habits, PLACED).any())


def test_a_class_that_never_occurs_has_no_habits_and_never_strays() -> None:
    habits = lesion_habits([body()], PLACED)
    assert not bool(habits.any())
    assert not bool(stray_pieces(body((20, 6, 1))[0], habits, PLACED).any())
