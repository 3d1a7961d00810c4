"""Maps of attention for segmentations, with a real bundle and real files."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError
from monai_transfer.workflows.explaining import explain

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def bundle(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained long enough to find some label."""
    root = tmp_path_factory.mktemp("bundles") / "organs"
    arguments = ["train", "--data", domains / "ct", "--output", root, "--steps", 80, "--spacing", 12, "--device", "cpu"]
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return root


@pytest.mark.slow
def test_a_map_of_each_label_lies_on_the_grid_of_the_file(domains: Path, bundle: Path, tmp_path: Path) -> None:
    image, output = domains / "ct" / "images" / "ct_001.nii.gz", tmp_path / "why"
    arguments = ["explain", str(image), "--bundle", str(bundle), "--output", str(output)]
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((output / "explanation.json").read_text())["volumes"]
    assert entry["maps"]
    scan = nibabel.load(image)
    for found in entry["maps"]:
        heat = nibabel.load(output / found["map"])
        np.testing.assert_allclose(heat.affine, scan.affine)
        assert heat.shape == scan.shape
        assert 0 < heat.get_fdata().max() <= 1
        assert (output / found["picture"]).is_file()
        assert f"ct_001: {found['label']}" in (output / "explanation.html").read_text()
    header = scan.header.copy()
    header["sform_code"] = header["qform_code"] = 0
    unplaced = tmp_path / "unplaced.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan.dataobj, None, header), unplaced)
    guessing = ["explain", str(unplaced), "--bundle", str(bundle), "--output", str(tmp_path / "guess")]
    assert RUNNER.invoke(app, guessing).exit_code == 1
    assert RUNNER.invoke(app, [*guessing, "--overwrite", "--assume-affine"]).exit_code == 0
    with pytest.raises(UserError, match="add --overwrite"):
        RUNNER.invoke(app, arguments, catch_exceptions=False)
    with pytest.raises(UserError, match="--label heart is none of the bundle's labels"):
        RUNNER.invoke(app, [*arguments, "--overwrite", "--label", "heart"], catch_exceptions=False)


def test_no_map_is_written_among_the_inputs(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), scan)
    with pytest.raises(UserError, match="lies in the output folder"):
        explain([scan], tmp_path / "bundle", tmp_path)
