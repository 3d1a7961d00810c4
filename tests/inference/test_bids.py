"""BIDS in and out."""

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_transfer.errors import UserError
from monai_transfer.inference import SegmentOptions
from monai_transfer.workflows.segmenting import segment
from tests.inference.conftest import MakeBundle, body, write_nifti

BIDS = SegmentOptions(bids=True, probabilities=True)
IMAGES = (
    "sub-02/anat/sub-02_T1w.nii.gz",
    "sub-01/ses-b/anat/sub-01_ses-b_acq-low_T2w.nii.gz",
    "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    others = ("sub-01/ses-b/anat/sub-01_ses-b_dseg.nii.gz", "sub-01/ses-b/anat/odd.nii.gz")
    for name in (*IMAGES, *others, "sub-02/func/sub-02_task-rest_bold.nii.gz", "derivatives/x/sub-02_dseg.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_nifti(root / name, body((10, 11, 12)))
    (root / "dataset_description.json").write_text('{"Name": "knees\\u001b", "BIDSVersion": "1.8.0"}')
    return root


def test_derivatives(raw: Path, make_bundle: MakeBundle, tmp_path: Path) -> None:
    names = {"0": "background", "1": "=fat\t", "2": "muscle", "3": "bone"}
    root, out = make_bundle(channels=names), raw / "derivatives" / "monai-transfer"
    manifest = segment(raw, root, out, device="cpu", options=BIDS, preview=True)
    assert [case["status"] for case in manifest["cases"]] == ["ok"] * 3
    found = {path.relative_to(out).as_posix() for path in out.rglob("*_dseg.nii.gz")}
    assert found == {
        "sub-01/ses-b/anat/sub-01_ses-b_desc-T1w_dseg.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_acq-low_desc-T2w_dseg.nii.gz",
        "sub-02/anat/sub-02_desc-T1w_dseg.nii.gz",
    }
    source, result = (nibabel.load(p) for p in (raw / IMAGES[0], out / "sub-02/anat/sub-02_desc-T1w_dseg.nii.gz"))
    assert result.shape == source.shape
    np.testing.assert_array_equal(result.affine, source.affine)
    assert (out / "sub-02/anat/sub-02_desc-T1w_probseg.nii.gz").is_file()
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "monai-transfer"
    assert description["Name"].endswith("knees?")
    with (out / "dseg.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows[1] == {"index": "1", "name": "'=fat"}
    assert "manifest.json" in (out / ".bidsignore").read_text()
    reasons = {Path(one["input"]).name: one["reason"] for one in manifest["skipped"]}
    assert set(reasons) == {"func", "sub-01_ses-b_dseg.nii.gz", "odd.nii.gz"}
    # the results lie in the data set, and are no input of the next run, which finds them finished
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*_dseg.nii.gz")}
    segment(raw, root, out, device="cpu", options=BIDS, preview=True, resume=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*_dseg.nii.gz")} == stamps
    again = segment(raw / "sub-02", root, tmp_path / "one", device="cpu", options=BIDS)
    assert [case["case"] for case in again["cases"]] == ["sub-02/anat/sub-02_desc-T1w"]


def _other(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "other", "GeneratedBy": [{"Name": "fmriprep"}]}')
    return folder


def test_what_does_not_go_together(raw: Path, bundle: Path, tmp_path: Path) -> None:
    for option, given in (("--masks", {"masks": True}), ("--format", {"format": "mha"})):
        with pytest.raises(UserError, match=f"{option} does not go with --bids"):
            segment(raw, bundle, tmp_path / "out", options=SegmentOptions(bids=True, **given))
    with pytest.raises(UserError, match="describes another data set"):
        segment(raw / "sub-02", bundle, _other(tmp_path / "other"), options=BIDS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no BIDS data set"):
        segment(tmp_path / "empty", bundle, tmp_path / "out", options=BIDS)
    (tmp_path / "sub-3").mkdir()
    with pytest.raises(UserError, match="has no image such as"):
        segment(tmp_path / "sub-3", bundle, tmp_path / "out", options=BIDS)
    assert not (tmp_path / "out").exists()
