"""The generators of broken data sets beside the project: each says in its first lines what is right."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.datasets import check_dataset, read_dataset

FAULTS = Path(__file__).resolve().parents[2].parent / "shared" / "faults"


def made(number: str, folder: Path) -> Path:
    scripts = list(FAULTS.glob(f"{number}_*.py"))
    if not scripts:
        pytest.skip("the generators are not here: ../shared/faults is absent")
    subprocess.run([sys.executable, scripts[0], folder], check=True, timeout=120)
    return folder


def test_a_subject_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    report = check_dataset(read_dataset(made("10", tmp_path)))
    assert [fault.case for fault in report.faults] == ["c3"]
    assert str(tmp_path / "images/c3.nii.gz") in report.faults[0].message


def test_a_case_without_lesion_is_used(tmp_path: Path) -> None:
    root = made("13", tmp_path / "data")
    report = check_dataset(read_dataset(root))
    assert report.sound
    assert [(warning.kind, warning.case) for warning in report.warnings] == [("label_empty", "c1")]
    result = CliRunner().invoke(app, ["train", "--data", str(root), "--output", str(tmp_path / "out"), "--dry-run"])
    assert result.exit_code == 0, result.output


def test_sparse_label_values_are_kept(tmp_path: Path) -> None:
    report = check_dataset(read_dataset(made("14", tmp_path)))
    assert report.sound
    assert report.fingerprint is not None
    assert report.fingerprint.label_values == (0, 17, 2035)


@pytest.mark.parametrize("form", ["v2map", "lists", "bom"])
def test_descriptions_of_nnunet_2(tmp_path: Path, form: str) -> None:
    dataset = read_dataset(made("17", tmp_path) / form)
    assert len(dataset.labelled) == len(dataset) == 4
    assert check_dataset(dataset).sound
