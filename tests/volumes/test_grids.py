from pathlib import Path

import numpy as np
import pytest

from monai_transfer.volumes.volume import (
    Volume,
    is_degenerate,
    largest_shift,
    orientation_code,
    same_grid,
    shear_of,
    spacing_of,
    to_ras,
)


def test_spacing_of_an_oblique_grid() -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.0, 2.0, 5.0]
    assert spacing_of(affine) == pytest.approx([1, 2, 5])
    assert shear_of(affine) == pytest.approx(0, abs=1e-12)


def test_shear_is_a_cosine() -> None:
    affine = np.eye(4)
    affine[:3, 1] = [0.6, 0.8, 0]
    assert shear_of(affine) == pytest.approx(0.6)


def test_ras_order() -> None:
    affine = np.array([[0, 0, -2.0, 0], [1.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
    assert orientation_code(affine) == "ASL"
    assert to_ras(affine, np.array([10.0, 20.0, 30.0])) == (30, 10, 20)


def test_degenerate_affines() -> None:
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    parallel = np.eye(4)
    parallel[:3, 1] = [1, 1e-5, 0]
    assert is_degenerate(flat)
    assert is_degenerate(parallel)
    assert is_degenerate(np.full((4, 4), np.nan))
    assert not is_degenerate(np.diag([0.01, 0.01, 0.01, 1.0]))


def test_shift_grows_to_the_corner() -> None:
    longer = np.diag([1.01, 1.0, 1.0, 1.0])
    assert largest_shift(np.eye(4), longer, (101, 5, 5)) == pytest.approx(1.0)


def test_a_flipped_grid_is_the_same_grid() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    flipped = np.array([[0, -2.0, 0, 18], [3.0, 0, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 1]])
    volume = Volume(Path("scan.nii"), np.zeros((1, 7, 10, 5), np.uint8), flipped)
    turned = volume.turned_like(affine)
    assert turned.shape == (10, 7, 5)
    assert turned.affine == pytest.approx(affine)


def test_tolerance_never_exceeds_a_quarter_voxel() -> None:
    fine, coarse = np.diag([0.4, 5.0, 5.0, 1.0]), np.diag([5.0, 5.0, 5.0, 1.0])
    for affine, least in ((fine, 0.1), (coarse, 0.5)):
        for shift, same in ((0.99 * least, True), (1.01 * least, False)):
            moved = affine.copy()
            moved[1, 3] += shift
            assert same_grid(moved, affine, (9, 9, 9)) is same
