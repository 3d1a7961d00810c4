"""One training, two tasks: from label maps and a list of diagnoses to a bundle that does both."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.two_task_configs import fine_enough
from monai_transfer.cli.app import app
from monai_transfer.cli.two_tasks import read_task_weights
from monai_transfer.datasets import read_two_tasks, require_sound
from monai_transfer.errors import UserError
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.phantoms import write_phantoms

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people; of two there is no label map, of one no diagnosis."""
    root = tmp_path_factory.mktemp("data") / "ct"
    write_phantoms(root, modality="ct", subjects=12, lesions=True, size=0.2)
    for name in ("ct_003", "ct_004"):
        (root / "labels" / f"{name}.nii.gz").unlink()
    (root / "dataset.json").unlink()  # it lists the label maps
    lines = (root / "diagnosis.csv").read_text().splitlines()
    (root / "diagnosis.csv").write_text("\n".join(line for line in lines if "ct_012" not in line) + "\n")
    return root


@pytest.fixture(scope="module")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "both"
    arguments = ["train", "--task", "both", "--data", str(data), "--output", str(output), "--device", "cpu"]
    result = RUNNER.invoke(app, [*arguments, "--steps", "3", "--spacing", "12"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return output


def test_the_data_say_what_is_known(data: Path) -> None:
    both = read_two_tasks(data)
    assert len(both) == 12
    assert both.without_map.cases.names == ("ct_003", "ct_004")
    items = {item["name"]: item for item in both.items()}
    assert "label" not in items["ct_003"]
    assert bool((items["ct_012"]["target"] != items["ct_012"]["target"]).all())  # NaN: nobody knows


def test_the_grid_is_fine_enough_for_the_smallest_label(data: Path) -> None:
    fingerprint = require_sound(read_two_tasks(data).cases, labelled=False)
    small = replace(fingerprint, label_volumes_ml={1: 1500.0, 6: 34.0})  # as a ball of 4 cm
    assert fine_enough(8.0, small) == pytest.approx(5.0)
    assert fine_enough(4.0, small) == 4.0
    assert fine_enough(12.0, small) == 6.0  # not more than eight times the voxels


@pytest.mark.slow
def test_one_training_reports_both_scores(bundle: Path) -> None:
    report = json.loads((bundle / "report.json").read_text())
    assert set(report) >= {"dice", "diagnosis"}
    assert "AUC" in " ".join(report["sentences"])
    assert "Mean Dice" in report["sentences"][0]
    assert {path.name for path in bundle.glob("*.html")} == {"report.html", "diagnosis.html"}
    assert report["run"]["start"] == "shapes:unet"
    assert json.loads((bundle / "eval" / "load_report.json").read_text())["encoder_share"] == 1.0


@pytest.mark.slow
def test_the_two_networks_have_one_encoder(bundle: Path) -> None:
    segmenting, naming = (
        torch.load(bundle / "models" / f"{name}.pt", weights_only=True) for name in ("model", "diagnosis")
    )
    assert torch.equal(segmenting["model.0.conv.weight"], naming["0.model.0.conv.weight"])
    # given to somebody else, it runs without a question
    for name in ("inference", "diagnosis"):
        assert concerns_of(json.loads((bundle / "configs" / f"{name}.json").read_text()), name) == []
    assert torch.equal(segmenting["model.1.submodule.0.conv.weight"], naming["0.model.1.submodule.0.conv.weight"])


@pytest.mark.slow
def test_plain_monai_runs_both_heads(bundle: Path, data: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "ct_001.nii.gz").write_bytes((data / "images" / "ct_001.nii.gz").read_bytes())
    program = (
        "import sys; sys.modules['monai_transfer'] = None\n"
        "from monai.bundle import run\n"
        "for name in ('inference', 'diagnosis'):\n"
        f"    run(config_file={str(bundle / 'configs')!r} + '/' + name + '.json', workflow_type='inference',"
        f" logging_file=False, meta_file={str(bundle / 'configs' / 'metadata.json')!r}, bundle_root={str(bundle)!r},"
        f" dataset_dir={str(scans)!r}, output_dir={str(tmp_path / 'out')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "out").rglob("ct_001*.nii.gz"))
    (row,) = list(csv.reader((tmp_path / "out" / "predictions.csv").open()))
    diagnoser = Diagnoser.from_bundle(bundle, device="cpu")
    _, image = diagnoser.read([scans / "ct_001.nii.gz"])
    ours = diagnoser.probabilities(diagnoser.logits(image)[None])[0]
    assert [float(value) for value in row[1:]] == pytest.approx(list(ours), abs=1e-4)


@pytest.mark.slow
def test_the_bundle_segments_and_diagnoses(bundle: Path, data: Path, tmp_path: Path) -> None:
    image = str(data / "images" / "ct_001.nii.gz")
    for command in ("segment", "diagnose"):
        arguments = [command, image, "--bundle", str(bundle), "--output", str(tmp_path / command), "--device", "cpu"]
        result = RUNNER.invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "segment" / "ct_001.nii.gz").is_file()
    assert (tmp_path / "diagnose" / "maps" / "ct_001.nii.gz").is_file()
    arguments = ["evaluate", "--bundle", str(bundle), "--data", str(data), "--output", str(tmp_path / "scores")]
    result = RUNNER.invoke(app, [*arguments, "--device", "cpu"], catch_exceptions=False)
    assert json.loads((tmp_path / "scores" / "diagnosis" / "scores.json").read_text())["auc"]["value"] >= 0
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())


@pytest.mark.slow
def test_a_resnet_has_two_heads_too(data: Path, tmp_path: Path) -> None:
    """The U-Net around it begins with the weights of shapes, and names classes by the encoder that segments."""
    arguments = ["train", "--task", "both", "--data", str(data), "--output", str(tmp_path / "both"), "--device", "cpu"]
    options = ["--network", "resnet10_light", "--steps", "2", "--spacing", "16"]
    result = RUNNER.invoke(app, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "both" / "report.json").read_text())
    assert report["run"]["start"] == "shapes:resnet10"
    assert report["run"]["network"] == "resnet10_light, two heads"
    assert json.loads((tmp_path / "both" / "eval" / "load_report.json").read_text())["encoder_share"] == 1.0
    files = [tmp_path / "both" / "models" / f"{name}.pt" for name in ("model", "diagnosis")]
    segmenting, naming = (torch.load(file, weights_only=True) for file in files)
    assert torch.equal(segmenting["encoder.layer4.0.conv1.weight"], naming["0.encoder.layer4.0.conv1.weight"])
    for name in ("inference", "diagnosis"):  # its network is this package's, and may be built without a question
        content = json.loads((tmp_path / "both" / "configs" / f"{name}.json").read_text())
        assert concerns_of(content, name) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "64"], "--size is for one task"),
        (["--network", "meshnet21"], "has one head"),
        (["--task-weights", "1"], "two numbers"),
    ],
)
def test_options_that_are_refused(data: Path, tmp_path: Path, options: list[str], said: str) -> None:
    arguments = ["train", "--task", "both", "--data", str(data), "--output", str(tmp_path / "out"), *options]
    with pytest.raises(UserError, match=said):
        RUNNER.invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_a_list_of_diagnoses_is_needed(tmp_path: Path) -> None:
    write_phantoms(tmp_path, modality="ct", subjects=1, size=0.2)
    with pytest.raises(UserError, match="no list of diagnoses"):
        read_two_tasks(tmp_path)


def test_weights_of_tasks() -> None:
    assert read_task_weights("1,0.5") == (1.0, 0.5)
    assert read_task_weights(None) is None
