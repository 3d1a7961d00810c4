"""Scoring files: grids, orders of axes, names, and what is missing."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_transfer.datasets import CaseDataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation import score_folder
from monai_transfer.evaluation.folder import common_labels
from tests.evaluation.conftest import AFFINE, Write, two_boxes


def test_scores_every_case_with_the_spacing_of_its_file(dataset: CaseDataset, write: Write, tmp_path: Path) -> None:
    for name, shift in {"a": 0, "b": 1, "c": 2}.items():
        write(f"pred/{name}.nii.gz", two_boxes(shift))
    seen: list[tuple[int, int, str]] = []
    table = score_folder(tmp_path / "pred", dataset, progress=lambda *step: seen.append(step))
    liver = {row.case: row for row in table.rows if row.label == "liver"}
    assert table.cases == ("a", "b", "c")
    assert liver["a"].dice == 1
    assert liver["b"].dice == pytest.approx(7 / 8)
    assert liver["c"].hd95_mm == pytest.approx(2.0)
    assert liver["a"].volume_ml_true == pytest.approx(8 * 8 * 7 * 6 / 1000)
    assert [case for _, _, case in seen] == ["a", "b", "c"]


def test_prediction_in_another_order_of_axes_is_turned(dataset: CaseDataset, tmp_path: Path) -> None:
    (tmp_path / "pred").mkdir()
    for name in ("a", "b", "c"):
        nib.save(nib.as_closest_canonical(nib.Nifti1Image(two_boxes(), AFFINE)), tmp_path / "pred" / f"{name}.nii.gz")
    table = score_folder(tmp_path / "pred", dataset)
    assert table.mean("dice") == 1


def test_sheared_grid_is_measured_in_the_world(write: Write, dataset: CaseDataset, tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[1, 2] = 1.0
    label, prediction = np.zeros((2, 20, 16, 12), dtype=np.uint8)
    label[4, 4, 4], prediction[4, 6, 2] = 1, 1
    write("data/labels/a.nii.gz", label, sheared)
    write("pred/a.nii.gz", prediction, sheared)
    row = score_folder(tmp_path / "pred", dataset.select(["a"])).rows[0]
    assert row.hd95_mm == pytest.approx(np.hypot(2 * 2 - 2 * 1, 2 * 3), rel=1e-5)


def test_missing_predictions_are_named_and_not_averaged(dataset: CaseDataset, write: Write, tmp_path: Path) -> None:
    write("pred/b.nii.gz", two_boxes())
    table = score_folder(tmp_path / "pred", dataset)
    assert table.cases == ("b",)
    assert table.without_prediction == ("a", "c")


def test_no_prediction_at_all(dataset: CaseDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no label map for any of the 3 labelled cases.*a\.nii\.gz"):
        score_folder(tmp_path, dataset)


def test_other_shape_names_both_files(dataset: CaseDataset, write: Write, tmp_path: Path) -> None:
    path = write("pred/a.nii.gz", two_boxes()[1:])
    with pytest.raises(UserError, match="19×16×12") as caught:
        score_folder(tmp_path / "pred", dataset)
    assert str(path) in str(caught.value)
    assert "labels/a.nii.gz" in str(caught.value)


def test_other_place_in_space(dataset: CaseDataset, write: Write, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 5
    path = write("pred/a.nii.gz", two_boxes(), moved)
    with pytest.raises(UserError, match="lies elsewhere in space") as caught:
        score_folder(tmp_path / "pred", dataset)
    assert str(path) in str(caught.value)


NO_LABELS = {
    "probabilities": (lambda labels: labels * 0.7, "no labels|not whole"),
    "probabilities of a thing": (lambda labels: (labels > 0) * 0.9, r"holds probabilities \(such as 0\.9"),
    "below zero": (lambda labels: labels - 1.0, "label value -1"),
    "logits": (lambda labels: labels * 8.0 - 4.0, "label value -4"),
    "above all": (lambda labels: labels * 1e8, "is it a label map"),
    "resampled": (lambda labels: labels + 0.25, "not whole numbers"),
}


@pytest.mark.parametrize("kind", NO_LABELS)
@pytest.mark.parametrize("whose", ["pred", "data/labels"])
def test_what_is_no_label_map_is_never_rounded_into_one(
    dataset: CaseDataset, write: Write, tmp_path: Path, kind: str, whose: str
) -> None:
    change, words = NO_LABELS[kind]
    for name in "abc":
        write(f"pred/{name}.nii.gz", two_boxes())
    write(f"{whose}/b.nii.gz", change(two_boxes()).astype(np.float32))
    with pytest.raises(UserError, match=rf"{whose}/b\.nii\.gz.*({words})"):
        score_folder(tmp_path / "pred", dataset)


def test_nearly_whole_labels_are_scored(dataset: CaseDataset, write: Write, tmp_path: Path) -> None:
    for name in "abc":
        write(f"pred/{name}.nii.gz", (two_boxes() * 0.9999).astype(np.float32))
    assert score_folder(tmp_path / "pred", dataset).mean("dice") == 1


def test_broken_prediction(dataset: CaseDataset, tmp_path: Path) -> None:
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred" / "a.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"a\.nii\.gz cannot be read"):
        score_folder(tmp_path / "pred", dataset)


def test_unlabelled_data_set(dataset: CaseDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no labels to score against"):
        score_folder(tmp_path, dataset.unlabelled)


def test_labels_that_both_sides_know() -> None:
    true = {0: "background", 1: "liver", 2: "left_kidney"}
    assert common_labels({}, true) == {1: "liver", 2: "left_kidney"}
    assert common_labels({0: "background", 2: "Left Kidney", 3: "aorta"}, true) == {2: "left_kidney"}
    assert common_labels({1: "label_1"}, true) == {1: "liver"}
    with pytest.raises(UserError, match="Label 1 is 'spleen' in the predictions but 'liver'"):
        common_labels({1: "spleen"}, true)
    with pytest.raises(UserError, match="no label value in common"):
        common_labels({7: "spleen"}, true)
