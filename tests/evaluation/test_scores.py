"""Scores of a case: values known by hand, MONAI's, and what happens when a label is empty."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, MeanIoU
from scipy import ndimage

from monai_transfer.evaluation import METRICS, LabelScore, score_case

SPACING = (1.0, 2.0, 4.0)


def cube(shift: tuple[int, int, int] = (0, 0, 0), *, value: int = 1, edge: int = 6) -> np.ndarray:
    volume = np.zeros((24, 24, 24), dtype=np.uint8)
    volume[tuple(slice(5 + s, 5 + s + edge) for s in shift)] = value
    return volume


def only(rows: list[LabelScore]) -> LabelScore:
    assert len(rows) == 1
    return rows[0]


def score(prediction: np.ndarray, label: np.ndarray, **options: Any) -> LabelScore:
    return only(score_case(prediction, label, spacing=SPACING, label_names={0: "background", 1: "liver"}, **options))


def test_equal_cubes_are_perfect() -> None:
    row = score(cube(), cube(), case="a")
    assert (row.case, row.label, row.outcome) == ("a", "liver", "scored")
    assert (row.dice, row.iou, row.nsd, row.precision, row.recall) == (1, 1, 1, 1, 1)
    assert (row.hd95_mm, row.assd_mm) == (0, 0)
    assert row.volume_ml_true == pytest.approx(6**3 * 8 / 1000)


@pytest.mark.parametrize(("axis", "step"), list(enumerate(SPACING)))
def test_cube_shifted_by_two_voxels(axis: int, step: float) -> None:
    shift = tuple(2 if i == axis else 0 for i in range(3))
    row = score(cube(shift), cube())
    assert row.dice == pytest.approx(4 / 6)
    assert row.iou == pytest.approx(4 / 8)
    assert row.precision == row.recall == pytest.approx(4 / 6)
    # the face of 36 voxels that sticks out by 2 steps is 36 of 152 surface voxels: more than 5 %
    assert row.hd95_mm == pytest.approx(2 * step)


def test_single_voxel_and_plate() -> None:
    prediction, label = np.zeros((2, 12, 12, 12), dtype=np.uint8)
    prediction[2, 5, 5] = 1
    label[2:4, 5, 5] = 1
    row = score(prediction, label, nsd_tolerance_mm=0.5)
    assert row.dice == pytest.approx(2 / 3)
    assert row.iou == pytest.approx(1 / 2)
    assert row.assd_mm == pytest.approx((0 + 0 + 1) / 3)
    assert row.hd95_mm == pytest.approx(0.95)  # linear between 0 and 1 at 95 %
    assert row.nsd == pytest.approx(2 / 3)
    assert (row.precision, row.recall) == (1, 0.5)


def test_tolerance_is_inclusive() -> None:
    assert score(cube((2, 0, 0)), cube(), nsd_tolerance_mm=2.0).nsd == 1
    assert score(cube((2, 0, 0)), cube(), nsd_tolerance_mm=1.9).nsd < 1


def test_missed_label() -> None:
    row = score(np.zeros_like(cube()), cube())
    assert row.outcome == "missed"
    assert (row.dice, row.iou, row.nsd, row.recall) == (0, 0, 0, 0)
    assert all(math.isnan(value) for value in (row.hd95_mm, row.assd_mm, row.precision))


def test_invented_label() -> None:
    row = score(cube(), np.zeros_like(cube()))
    assert row.outcome == "invented"
    assert (row.dice, row.iou, row.nsd, row.precision) == (0, 0, 0, 0)
    assert all(math.isnan(value) for value in (row.hd95_mm, row.assd_mm, row.recall))


def test_absent_label_is_undefined() -> None:
    row = score(np.zeros_like(cube()), np.zeros_like(cube()))
    assert row.outcome == "absent"
    assert all(math.isnan(getattr(row, metric)) for metric in METRICS)
    assert (row.volume_ml_true, row.volume_ml_predicted) == (0, 0)


def test_labels_at_the_border_of_the_image() -> None:
    label = np.zeros((8, 8, 8), dtype=np.uint8)
    label[:4] = 1
    prediction = np.zeros_like(label)
    prediction[:3] = 1
    row = score(prediction, label)
    assert row.dice == pytest.approx(6 / 7)
    assert row.hd95_mm == pytest.approx(1)


def test_every_label_as_in_monai() -> None:
    fields = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(2, 4, 16, 15, 14)), (0, 0, 2, 2, 2))
    prediction, label = fields.argmax(axis=1)
    rows = score_case(prediction, label, spacing=(1, 1, 1), label_names={1: "a", 2: "b", 3: "c"})
    one_hot = [torch.from_numpy(np.stack([m == k for k in range(4)])[None]) for m in (prediction, label)]
    dice, iou = DiceMetric(include_background=False), MeanIoU(include_background=False)
    assert [row.dice for row in rows] == pytest.approx(dice(*one_hot).flatten().tolist(), rel=1e-5)
    assert [row.iou for row in rows] == pytest.approx(iou(*one_hot).flatten().tolist(), rel=1e-5)


def test_padding_changes_nothing() -> None:
    prediction, label = cube((1, 2, 0)), cube()
    padded = [np.pad(volume, 9) for volume in (prediction, label)]
    assert score(*padded) == score(prediction, label)


def test_values_without_a_name_are_background() -> None:
    prediction = np.maximum(cube(), cube((8, 8, 8), value=9))
    assert score(prediction, cube()).dice == 1


def test_no_names_scores_every_value() -> None:
    rows = score_case(cube(value=3), cube(value=3) + cube((8, 8, 8), value=5), spacing=SPACING, label_names={})
    assert [(row.label, row.outcome) for row in rows] == [("label_3", "scored"), ("label_5", "missed")]


def test_two_dimensions_and_float_maps() -> None:
    row = only(score_case(cube()[8].astype(np.float32), cube()[8], spacing=(1.0, 2.0), label_names={1: "liver"}))
    assert row.dice == 1


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        score(cube(), cube()[1:])
