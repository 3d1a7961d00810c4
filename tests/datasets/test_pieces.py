"""Pieces of labels, against MONAI's own."""

import numpy as np
import pytest
import torch
from monai.transforms import KeepLargestConnectedComponent

from monai_transfer.datasets.label_values import in_one_piece
from monai_transfer.inference.cleaning import keep_single_pieces


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_pieces_are_those_of_monai(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(5, (14, 11, 9), p=(0.7, 0.1, 0.1, 0.05, 0.05)).astype(np.uint8)
    theirs = KeepLargestConnectedComponent(applied_labels=[1, 3, 4], is_onehot=False, independent=True)
    expected = theirs(torch.from_numpy(labels[None].astype(np.float32)))[0].numpy()
    keep_single_pieces(labels, (1, 3, 4))
    np.testing.assert_array_equal(labels, expected)


def test_pieces_touch_by_corners_and_specks_are_none() -> None:
    labels = np.zeros((20, 20, 20), np.uint16)
    labels[:10, :10, :10] = 1  # 1000 voxels
    labels[19, 19, 19] = 1  # and a speck
    labels[12:14, 0, 0] = labels[18, 0, 0] = 2  # two pieces
    labels[12, 12, 12] = labels[13, 13, 13] = 300  # one, by a corner
    assert in_one_piece(labels) == {1, 300}
    assert in_one_piece(labels[None]) == {1, 300}  # as files are read, with an axis of channels
