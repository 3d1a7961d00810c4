"""adapt --within: learning from boxes, and a bundle that finds its box by itself."""

import json
import tempfile
from pathlib import Path

import nibabel as nib
import pytest
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.workflows.boxes import boxes_beside
from tests.cli.test_canary import _bundle
from tests.cli.test_training_commands import QUICK

pytestmark = pytest.mark.usefixtures("quiet")


def test_adapt_within_boxes_gives_a_bundle_that_finds_its_box(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse, output = tmp_path / "coarse", tmp_path / "fine"
    trained = CliRunner().invoke(app, ["train", "--data", str(domains / "ct"), "--output", str(coarse), *QUICK])
    assert trained.exit_code == 0, trained.output
    command = ["adapt", "--source", str(domains / "ct"), "--target", str(domains / "mr"), "--within", str(coarse)]
    command += ["--output", str(output), *QUICK, "--jobs", "1"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    for arm in (output, output / "comparison" / "source_only", output / "comparison" / "oracle"):
        assert (arm / "models" / "finder" / "models" / "model.pt").is_file()
        written = nib.load(next((arm / "eval" / "predictions").glob("*.nii.gz")))
        assert written.shape == nib.load(domains / "mr" / "images" / "mr_003.nii.gz").shape
    train = json.loads((output / "configs" / "train.json").read_text())
    assert train["source_dir"] == str(boxes_beside(output) / "source")
    assert "looks in the box that models/finder finds" in (output / "docs" / "README.md").read_text()
    finder = json.loads((output / "models" / "finder" / "configs" / "train.json").read_text())
    assert not finder["train_cases"]  # a bundle is given to others: it says nothing of whose scans it learnt from

    refused = CliRunner().invoke(app, command)
    assert "not empty" in str(refused.exception)
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 0, again.output
    before = sorted(boxes_beside(output).rglob("*"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(output)
    for place in (str(output), "."):
        planned = CliRunner().invoke(app, [*command, "--output", place, "--dry-run", "--json"])
        assert planned.exit_code == 0, planned.output
        grid = json.loads(planned.stdout)["spacing"]
        assert grid == train["spacing"]
        assert sorted(boxes_beside(output).rglob("*")) == before
        assert not list((tmp_path / "scratch").iterdir())


def test_a_finder_of_a_stranger_is_asked_about_first(domains: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    stranger = _bundle(tmp_path / "stranger", "network_def", f"$open({str(canary)!r}, 'w')")
    command = ["adapt", "--source", str(domains / "ct"), "--target", str(domains / "mr"), "--within", str(stranger)]
    done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "fine"), "--device", "cpu"])
    assert done.exit_code
    assert "trust" in str(done.exception)
    assert not canary.exists()


@pytest.mark.parametrize("beside", [["--bundle", "coarse"], ["--source", "ct", "--task", "diagnosis"]])
def test_within_goes_with_a_source_and_segmentation(beside: list[str], domains: Path, tmp_path: Path) -> None:
    command = ["adapt", "--target", str(domains / "mr"), "--output", str(tmp_path / "fine"), "--within", "coarse"]
    assert "--within" in str(CliRunner().invoke(app, [*command, *beside]).exception)
