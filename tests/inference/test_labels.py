"""Only the labels that are wanted, a file for each, and what is measured of them."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from monai_transfer.errors import UserError
from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.inference.restoration import Restorer
from monai_transfer.workflows.segmenting import segment
from tests.inference.conftest import MakeBundle, body, write_nifti


def voxels(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


@pytest.mark.parametrize("extra", [{}, {"probabilities": True}])
def test_wanted_labels_are_those_of_the_whole_run(
    bundle: Path, ct: Path, tmp_path: Path, extra: dict[str, bool]
) -> None:
    everything = segment(ct, bundle, tmp_path / "all", device="cpu")["cases"][0]
    options = SegmentOptions(labels=("muscle",), **extra)
    manifest = segment(ct, bundle, tmp_path / "one", device="cpu", options=options)
    whole, only = voxels(tmp_path / "all" / "ct.nii.gz"), voxels(tmp_path / "one" / "ct.nii.gz")
    assert (whole == 2).any()
    np.testing.assert_array_equal(only, np.where(whole == 2, 2, 0))
    assert manifest["labels"] == {"0": "background", "2": "muscle"}
    assert manifest["cases"][0]["volumes_ml"] == {"muscle": everything["volumes_ml"]["muscle"]}
    if extra:
        assert voxels(tmp_path / "one" / "ct_probabilities.nii.gz").shape == (*only.shape, 2)


def test_overlapping_labels_are_chosen_too(make_bundle: MakeBundle, ct: Path) -> None:
    root = make_bundle(sigmoid=True)
    whole = Segmenter.from_bundle(root, device="cpu").segment(ct)
    only = Segmenter.from_bundle(root, device="cpu", options=SegmentOptions(labels=("bone", "fat"))).segment(ct)
    assert only.label_names == {0: "fat", 1: "bone"}
    np.testing.assert_array_equal(only.labels, whole.labels[..., [1, 3]])
    assert only.volumes_ml == {name: whole.volumes_ml[name] for name in ("fat", "bone")}


def test_places_without_a_wanted_label_are_not_restored(
    bundle: Path, ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    relevant = Restorer._relevant

    def look(self: Restorer, probabilities: torch.Tensor) -> tuple[list[int], slice, slice]:
        found = relevant(self, probabilities)
        seen.append(found[0])
        return found

    monkeypatch.setattr(Restorer, "_relevant", look)
    Segmenter.from_bundle(bundle, device="cpu").segment(ct)
    whole = len([classes for classes in seen if classes])
    seen.clear()
    Segmenter.from_bundle(bundle, device="cpu", options=SegmentOptions(labels=("bone",))).segment(ct)
    assert 0 < len([classes for classes in seen if classes]) < whole


@pytest.mark.parametrize("name", ["liver", "background", "muscle,bone"])
def test_a_label_that_is_not_there(bundle: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"no label '{name}'; the bundle has fat, muscle, bone\."):
        Segmenter.from_bundle(bundle, device="cpu", options=SegmentOptions(labels=(name,)))


def test_a_file_for_each_label(make_bundle: MakeBundle, ct: Path, tmp_path: Path) -> None:
    names = {"0": "background", "1": "../fat", "2": "Bone", "3": "bone"}
    root, out = make_bundle(channels=names), tmp_path / "out"
    (entry,) = segment(ct, root, out, device="cpu", options=SegmentOptions(masks=True))["cases"]
    whole = voxels(out / "ct.nii.gz")
    files = {"ct_labels/_fat.nii.gz": 1, "ct_labels/Bone.nii.gz": 2, "ct_labels/bone_2.nii.gz": 3}
    assert set(entry["files"]) == {"ct.nii.gz", *files}
    for file, value in files.items():
        np.testing.assert_array_equal(voxels(out / file), whole == value)
        assert nibabel.load(out / file).header.get_intent()[0] == "label"
    segment(ct, root, out, device="cpu", overwrite=True)  # not asked for again: they would be taken for new
    assert not (out / "ct_labels").exists()


def test_statistics(make_bundle: MakeBundle, tmp_path: Path) -> None:
    names = {"0": "background", "1": "fat", "2": "=muscle", "3": "bone"}
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_nifti(tmp_path / "in" / f"{number}.nii.gz", body((20, 18, 16), seed=number))
    out, options = tmp_path / "out", SegmentOptions(statistics=True)
    cases = segment(tmp_path / "in", make_bundle(channels=names), out, device="cpu", options=options)["cases"]
    with (out / "statistics.csv").open(newline="") as file:
        rows = {(row["case"], row["label"]): row for row in csv.DictReader(file)}
    assert set(rows) == {(case, label) for case in "01" for label in ("fat", "'=muscle", "bone")}
    for number, case in enumerate(cases):
        inside = voxels(tmp_path / "in" / f"{number}.nii.gz")[voxels(out / f"{number}.nii.gz") == 1]
        row, found = rows[str(number), "fat"], case["statistics"]["fat"]
        assert float(row["mean"]) == pytest.approx(inside.mean(), abs=1e-5)
        assert float(row["deviation"]) == pytest.approx(inside.std(), abs=1e-5)
        assert float(row["volume_ml"]) == pytest.approx(inside.size * 0.9 * 1.1 * 1.7 / 1000, abs=1e-4)
        assert found["channels"] == {"channel 0": {"mean": float(row["mean"]), "deviation": float(row["deviation"])}}


def test_an_absent_label_has_no_mean(bundle: Path, tmp_path: Path) -> None:
    air = write_nifti(tmp_path / "air.nii.gz", np.full((12, 12, 12), -1000, np.int16))
    options = SegmentOptions(statistics=True, labels=("bone",))
    (case,) = segment(air, bundle, tmp_path / "out", device="cpu", options=options)["cases"]
    assert case["statistics"] == {
        "bone": {"volume_ml": 0.0, "channels": {"channel 0": {"mean": None, "deviation": None}}}
    }
    assert (tmp_path / "out" / "statistics.csv").read_text().splitlines()[1] == "air,bone,0.0,channel 0,,"


def test_fast_computes_fewer_windows_of_the_same_labels(bundle: Path, ct: Path) -> None:
    whole = Segmenter.from_bundle(bundle, device="cpu").segment(ct)
    fast = Segmenter.from_bundle(bundle, device="cpu", options=SegmentOptions(fast=True)).segment(ct)
    assert fast.windows[1] < whole.windows[1] / 2
    assert (fast.labels == whole.labels).mean() > 0.99
