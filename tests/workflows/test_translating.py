"""Translated volumes are a sound labelled data set of the target's modality."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.datasets import check_dataset, read_dataset
from monai_transfer.errors import UserError

RUNNER = CliRunner()


def command(source: Path, target: Path, output: Path, *options: str) -> list[str]:
    data = ["--source", str(source), "--target", str(target), "--output", str(output)]
    return ["translate", *data, "--spacing", "12", "--steps", "2", "--width", "4", "--device", "cpu", *options]


def test_a_ct_becomes_an_mr_with_the_labels_that_it_had(domains: Path, tmp_path: Path) -> None:
    output = tmp_path / "ct_as_mr"
    result = RUNNER.invoke(app, command(domains / "ct", domains / "mr", output, "--json"))
    assert result.exit_code == 0, result.output
    source, made = read_dataset(domains / "ct"), read_dataset(output)
    assert json.loads(result.stdout)["cases"] == list(source.names) == list(made.names)
    assert made.channel_names == ("MR",)
    assert made.label_names == source.label_names
    report = check_dataset(made)
    assert not report.faults
    assert report.fingerprint is not None
    assert report.fingerprint.modality == "mr"
    for old, new in zip(source.cases, made.cases, strict=True):
        before, after = nib.load(old.label), nib.load(new.label)  # type: ignore[arg-type]
        sizes = [
            np.bincount(np.asarray(label.dataobj).ravel().astype(int), minlength=6)[1:]
            * abs(np.linalg.det(label.affine[:3, :3]))
            for label in (before, after)
        ]
        assert sizes[1].sum() == pytest.approx(sizes[0].sum(), rel=0.2)
        np.testing.assert_allclose(after.header.get_zooms(), 12, rtol=1e-3)
        assert nib.load(new.images[0]).get_data_dtype() == np.float32


def test_an_mr_becomes_a_ct_in_hounsfield_units(domains: Path, tmp_path: Path) -> None:
    output = tmp_path / "mr_as_ct"
    result = RUNNER.invoke(app, command(domains / "mr", domains / "ct", output))
    assert result.exit_code == 0, result.output
    values = np.concatenate([np.asarray(nib.load(c.images[0]).dataobj).ravel() for c in read_dataset(output).cases])
    assert -160 <= values.min() < values.max() <= 240
    fewer = command(domains / "mr", domains / "ct", output, "--overwrite", "--source-cases", "mr_001,mr_002")
    assert "holds mr_003.nii.gz, which is not one of the cases" in str(RUNNER.invoke(app, fewer).exception)


def test_what_cannot_be_done_is_said_before_any_training(domains: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    taken = RUNNER.invoke(app, command(domains / "ct", domains / "mr", tmp_path))
    assert isinstance(taken.exception, UserError)
    assert "not empty" in str(taken.exception)
    coarse = command(domains / "ct", domains / "mr", tmp_path / "new", "--spacing", "50")
    assert "finer --spacing" in str(RUNNER.invoke(app, coarse).exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]
