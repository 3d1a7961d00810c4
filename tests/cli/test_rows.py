"""What the page of commands promises and no other test types."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from tests.inference.conftest import MakeBundle, body, bundle, make_bundle, write_nifti  # noqa: F401 (fixtures)
from tests.volumes.dicom_files import axial, write_series


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_segment(bundle: Path, tmp_path: Path) -> None:  # noqa: F811
    scan, out = write_nifti(tmp_path / "ct.nii.gz", body((16, 16, 16))), tmp_path / "out"
    options = ["--labels", "bone,fat", "--masks", "--statistics", "--fast", "--probabilities", "--runtime", "torch"]
    options += ["--format", "mha", "--json"]
    manifest = json.loads(run("segment", scan, "--bundle", bundle, "--output", out, *options))
    assert manifest["labels"] == {"0": "background", "1": "fat", "3": "bone"}
    assert set(np.unique(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(out / "ct.mha"))))) <= {0, 1, 3}
    assert {path.name for path in (out / "ct_labels").iterdir()} == {"fat.mha", "bone.mha"}
    assert (out / "statistics.csv").read_text().count("\n") == 3
    assert nibabel.load(out / "ct_probabilities.nii.gz").shape == (16, 16, 16, 3)
    plan = run("segment", scan, "--bundle", bundle, "--output", tmp_path / "new", "--format", "same", "--dry-run")
    assert plan.rstrip().endswith("ct.nii.gz")


def test_segment_says_where_it_cannot_estimate(bundle: Path, tmp_path: Path) -> None:  # noqa: F811
    scan = write_nifti(tmp_path / "ct.nii.gz", body((12, 12, 12)))
    command = ["segment", str(scan), "--bundle", str(bundle), "--output", str(tmp_path / "out"), "--estimate-dice"]
    assert "omit --estimate-dice" in str(CliRunner().invoke(app, command).exception)


def test_segment_bids(bundle: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "raw" / "sub-1" / "anat").mkdir(parents=True)
    write_nifti(tmp_path / "raw" / "sub-1" / "anat" / "sub-1_T1w.nii.gz", body((12, 12, 12)))
    run("segment", tmp_path / "raw", "--bundle", bundle, "--output", tmp_path / "out", "--bids")
    assert (tmp_path / "out" / "sub-1" / "anat" / "sub-1_desc-T1w_dseg.nii.gz").is_file()


def test_segment_writes_dicom_seg(make_bundle: MakeBundle, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("highdicom")
    study = {"StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "", "StudyID": "1", "SeriesNumber": 3}
    patient = dict.fromkeys(("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "Manufacturer"), "")
    write_series(tmp_path / "scan", axial(np.arange(-20.0, 16.0, 1.5)), Modality="CT", **study, **patient)
    run("segment", tmp_path / "scan", "--bundle", make_bundle(), "--output", tmp_path / "out", "--dicom-seg")
    assert (tmp_path / "out" / "scan_seg.dcm").is_file()


def test_export(bundle: Path, tmp_path: Path) -> None:  # noqa: F811
    told = run("export", "--bundle", bundle, "--format", "torchscript", "--output", tmp_path / "model.ts", "--json")
    assert json.loads(told)
    assert (tmp_path / "model.ts").is_file()


def test_phantoms_with_lesions_and_a_fold_that_is_held_out(tmp_path: Path) -> None:
    run("phantom", "--output", tmp_path / "ct", "--modality", "ct", "--subjects", 3, "--size", 0.2, "--lesions")
    assert (tmp_path / "ct" / "diagnosis.csv").is_file()
    content = json.loads((tmp_path / "ct" / "dataset.json").read_text())
    content["training"] = [{**entry, "fold": number} for number, entry in enumerate(content["training"])]
    datalist = tmp_path / "ct" / "datalist.json"
    datalist.write_text(json.dumps(content))
    run("train", "--data", datalist, "--fold", 1, "--output", tmp_path / "bundle", "--dry-run", "--json")
    done = CliRunner().invoke(app, ["train", "--data", str(datalist), "--fold", "7", "--output", "x", "--dry-run"])
    assert "in the folds 0, 1, 2" in str(done.exception)
