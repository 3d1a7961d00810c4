import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms

RUNNER = CliRunner()


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    write_phantoms(tmp_path / "set", modality="ct", subjects=2, size=0.15)
    return tmp_path / "set"


def test_sound_set(phantoms: Path) -> None:
    result = RUNNER.invoke(app, ["check", str(phantoms)])
    assert result.exit_code == 0, result.output
    assert "sound" in result.stdout
    assert "liver" in result.stdout


def test_json(phantoms: Path) -> None:
    result = RUNNER.invoke(app, ["check", str(phantoms), "--json"])
    content = json.loads(result.stdout)
    assert content["sound"] is True
    assert content["cases"] == 2
    assert content["fingerprint"]["modality"] == "ct"
    assert content["faults"] == []


def test_faults(phantoms: Path) -> None:
    path = phantoms / "images" / "ct_001.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 1), np.int16), np.eye(4)), path)
    result = RUNNER.invoke(app, ["check", str(phantoms)])
    assert result.exit_code == 1
    assert "ct_001.nii.gz is a single slice" in result.stdout
    content = json.loads(RUNNER.invoke(app, ["check", str(phantoms), "--json"]).stdout)
    assert [fault["kind"] for fault in content["faults"]] == ["not_3d"]
    assert content["fingerprint"]["cases"] == 1


def test_test_images_are_checked_too(phantoms: Path) -> None:
    for old, new in (("images", "imagesTr"), ("labels", "labelsTr")):
        (phantoms / old).rename(phantoms / new)
    (phantoms / "dataset.json").unlink()
    (phantoms / "imagesTs").mkdir()
    (phantoms / "imagesTs" / "x.nii.gz").write_bytes(b"")
    result = RUNNER.invoke(app, ["check", str(phantoms)])
    assert result.exit_code == 1
    assert "x.nii.gz cannot be read" in result.stdout


def test_nothing_there(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["check", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    process = subprocess.run(
        [sys.executable, "-m", "monai_transfer", "check", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert "is empty" in process.stderr
    assert "Traceback" not in process.stderr


def test_guesses_are_asked_for(phantoms: Path) -> None:
    path = phantoms / "images" / "ct_001.nii.gz"
    image = nib.load(path)
    image.set_sform(image.affine, 0)
    image.set_qform(image.affine, 0)
    nib.save(image, path)
    refused = RUNNER.invoke(app, ["check", str(phantoms)])
    assert refused.exit_code == 1
    assert "--assume-affine" in refused.stdout
    assert "no valid affine code" not in RUNNER.invoke(app, ["check", str(phantoms), "--assume-affine"]).stdout
