"""Surface distances against distances known by hand, MONAI's metrics and SciPy's distance transform."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from monai_transfer.evaluation.surfaces import (
    average_surface_distance,
    hausdorff95,
    surface_dice,
    surface_distances,
    voxel_steps,
)

SPACING = (0.8, 1.5, 3.0)


def blob(seed: int, shape: tuple[int, ...] = (20, 18, 14)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2) > 0.03


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([~mask, mask])[None])


def test_two_voxels_apart_along_each_axis() -> None:
    for axis, step in enumerate(SPACING):
        first, second = np.zeros((2, 9, 9, 9), dtype=bool)
        first[4, 4, 4] = True
        second[tuple(7 if i == axis else 4 for i in range(3))] = True
        forth, back = surface_distances(first, second, spacing=SPACING)
        assert forth == pytest.approx([3 * step])
        assert back == pytest.approx([3 * step])


def test_equal_masks_have_distance_zero() -> None:
    forth, back = surface_distances(blob(0), blob(0), spacing=SPACING)
    assert hausdorff95(forth, back) == 0
    assert average_surface_distance(forth, back) == 0
    assert surface_dice(forth, back, tolerance_mm=0) == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(20, 18, 14), (40, 33)], ids=["3d", "2d"])
def test_equals_monai_on_the_uncropped_volume(seed: int, shape: tuple[int, ...]) -> None:
    first, second = blob(seed, shape), blob(seed + 10, shape)
    spacing = SPACING[: len(shape)]
    forth, back = surface_distances(first, second, spacing=spacing)
    pair = {"y_pred": one_hot(first), "y": one_hot(second), "spacing": list(spacing)}
    assert hausdorff95(forth, back) == pytest.approx(float(compute_hausdorff_distance(**pair, percentile=95)), rel=1e-5)
    expected = float(compute_average_surface_distance(**pair, symmetric=True))
    assert average_surface_distance(forth, back) == pytest.approx(expected, rel=1e-5)
    expected = float(compute_surface_dice(**pair, class_thresholds=[2.0]))
    assert surface_dice(forth, back, tolerance_mm=2.0) == pytest.approx(expected, rel=1e-5)


def test_equals_the_distance_transform() -> None:
    first, second = blob(5), blob(6)
    forth, back = surface_distances(first, second, spacing=SPACING)
    edge = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    to_second = ndimage.distance_transform_edt(~edge[1], sampling=SPACING)[edge[0]]
    to_first = ndimage.distance_transform_edt(~edge[0], sampling=SPACING)[edge[1]]
    assert forth == pytest.approx(to_second)
    assert back == pytest.approx(to_first)


def test_swapping_the_masks_changes_no_metric() -> None:
    forth, back = surface_distances(blob(1), blob(2), spacing=SPACING)
    assert hausdorff95(forth, back) == hausdorff95(back, forth)
    assert average_surface_distance(forth, back) == pytest.approx(average_surface_distance(back, forth))


def test_sheared_grid_measures_in_the_world() -> None:
    # a tilted gantry: one step along the third axis also moves 1 mm along the second
    affine = np.array([[0.8, 0, 0, -5], [0, 1.5, 1.0, 7], [0, 0, 3.0, 2], [0, 0, 0, 1]])
    first, second = np.zeros((2, 9, 9, 9), dtype=bool)
    first[4, 4, 4] = second[4, 6, 2] = True
    forth, _ = surface_distances(first, second, spacing=affine)
    assert forth == pytest.approx([np.hypot(2 * 1.5 - 2 * 1.0, 2 * 3.0)])


def test_rotated_affine_equals_voxel_sizes() -> None:
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    rotated = surface_distances(blob(3), blob(4), spacing=turn @ np.diag(SPACING))
    plain = surface_distances(blob(3), blob(4), spacing=SPACING)
    assert rotated[0] == pytest.approx(plain[0])


def test_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        surface_distances(blob(0), np.zeros_like(blob(0)), spacing=SPACING)


def test_spacing_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="voxel sizes"):
        voxel_steps((1.0, 2.0), 3)
