"""``monai-transfer evaluate``: files written, exit status, and what is refused."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 2.0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
NAMES = {"0": "background", "1": "liver", "2": "left_kidney"}


def label_map() -> np.ndarray:
    volume = np.zeros((20, 18, 16), dtype=np.uint8)
    volume[3:11, 3:13, 3:12] = 1
    volume[13:17, 5:11, 4:10] = 2
    return volume


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three cases whose label can be read off the intensity: 100, 160 and 220, with noise of 5."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        image = 100 + 60.0 * label_map() + rng.normal(0, 5, size=(20, 18, 16))
        save(tmp_path / f"data/images/{name}.nii.gz", image.astype(np.float32))
        save(tmp_path / f"data/labels/{name}.nii.gz", label_map())
    (tmp_path / "data/dataset.json").write_text(json.dumps({"labels": NAMES}))
    return tmp_path / "data"


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    for shift, name in enumerate(("a", "b", "c")):
        save(tmp_path / f"pred/{name}.nii.gz", np.roll(label_map(), shift, axis=0))
    return tmp_path / "pred"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A 1×1×1 convolution that gives each voxel the class whose intensity is nearest."""
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    scale = {"a_min": 100, "a_max": 220, "b_min": 0.0, "b_max": 1.0}
    steps = [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "ScaleIntensityRanged", "keys": "image", **scale},
    ]
    post = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {
            "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
            "nearest_interp": False, "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ]  # fmt: skip
    config = {
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 1, "overlap": 0.25},
        "postprocessing": {"_target_": "Compose", "transforms": post},
    }
    outputs = {"pred": {"num_channels": 3, "channel_def": NAMES}}
    formats = {"inputs": {"image": {"num_channels": 1}}, "outputs": outputs}
    (root / "configs/inference.json").write_text(json.dumps(config))
    (root / "configs/metadata.json").write_text(json.dumps({"version": "0.1.0", "network_data_format": formats}))
    centres = torch.tensor([0.0, 0.5, 1.0])
    weights = {"weight": 40 * centres.reshape(3, 1, 1, 1, 1), "bias": -20 * centres**2}
    torch.save(weights, root / "models/model.pt")
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_label_maps_are_scored(data: Path, predictions: Path, tmp_path: Path) -> None:
    result = run("--predictions", predictions, "--data", data, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Mean Dice" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "scores.csv", "scores.json"}
    rows = list(csv.DictReader((tmp_path / "out/scores.csv").open()))
    assert len(rows) == 6
    assert float(rows[2]["dice"]) == pytest.approx(7 / 8)
    assert {"hd95_mm", "assd_mm", "nsd", "iou"} <= set(rows[0])
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "http" not in page


def test_scores_stay_out_of_the_data(data: Path, predictions: Path) -> None:
    holding = next(data.rglob("*.nii.gz")).parent
    before = sorted(data.rglob("*"))
    result = run("--predictions", predictions, "--data", data, "--output", holding)
    assert result.exit_code == 1
    assert "choose another --output" in str(result.exception)
    assert sorted(data.rglob("*")) == before


def test_json_is_the_file(data: Path, predictions: Path, tmp_path: Path) -> None:
    result = run("--predictions", predictions, "--data", data, "--output", tmp_path / "out", "--json")
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "out/scores.json").read_text())
    assert printed["per_label"]["liver"]["dice"] == pytest.approx((1 + 7 / 8 + 6 / 8) / 3)
    assert printed["cases"] == 3


def test_a_bundle_segments_and_is_scored(data: Path, bundle: Path, tmp_path: Path) -> None:
    result = run("--bundle", bundle, "--data", data, "--output", tmp_path / "out", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["dice"] == pytest.approx(1.0, abs=0.01)
    assert printed["run"]["bundle"]["checksum"]
    assert (tmp_path / "out/predictions/a.nii.gz").is_file()


def test_names_of_the_cases_may_differ_from_the_files(data: Path, bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (data / f"images/{name}.nii.gz").rename(data / f"images/{name}_0000.nii.gz")
    (data / "images").rename(data / "imagesTr")
    (data / "labels").rename(data / "labelsTr")
    result = run("--bundle", bundle, "--data", data, "--output", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["run"]["data"]["scored"] == ["a", "b", "c"]
    assert printed["dice"] == pytest.approx(1.0, abs=0.01)


def test_one_broken_image_leaves_the_others(data: Path, bundle: Path, tmp_path: Path) -> None:
    (data / "images/b.nii.gz").write_bytes(b"broken")
    result = run("--bundle", bundle, "--data", data, "--output", tmp_path / "out", "--json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert printed["without_prediction"] == ["b"]
    assert "b.nii.gz" in printed["failures"]["b"]
    assert printed["cases"] == 2
    assert "b.nii.gz" in result.stderr


def test_nothing_but_broken_images(data: Path, bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (data / f"images/{name}.nii.gz").write_bytes(b"broken")
    result = run("--bundle", bundle, "--data", data, "--output", tmp_path / "out")
    assert isinstance(result.exception, UserError)
    assert "cannot be read" in str(result.exception)


def test_a_missing_label_map_is_named(data: Path, predictions: Path, tmp_path: Path) -> None:
    (predictions / "c.nii.gz").unlink()
    result = run("--predictions", predictions, "--data", data, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "No prediction for c" in result.stderr
    assert "No prediction for c" in (tmp_path / "out/report.html").read_text()


def test_chosen_cases(data: Path, predictions: Path, tmp_path: Path) -> None:
    result = run("--predictions", predictions, "--data", data, "--output", tmp_path / "o", "--cases", "a,b", "--json")
    assert json.loads(result.stdout)["run"]["data"]["scored"] == ["a", "b"]


def test_labels_without_names(data: Path, predictions: Path, tmp_path: Path) -> None:
    (data / "dataset.json").unlink()
    result = run("--predictions", predictions, "--data", data, "--output", tmp_path / "out", "--json")
    assert set(json.loads(result.stdout)["per_label"]) == {"label_1", "label_2"}


def test_names_in_the_manifest_must_agree(data: Path, predictions: Path, tmp_path: Path) -> None:
    (predictions / "manifest.json").write_text(json.dumps({"labels": {"0": "background", "1": "spleen"}}))
    result = run("--predictions", predictions, "--data", data, "--output", tmp_path / "out")
    assert isinstance(result.exception, UserError)
    assert "Label 1 is 'spleen'" in str(result.exception)


def test_dry_run_writes_nothing(data: Path, bundle: Path, tmp_path: Path) -> None:
    result = run("--bundle", bundle, "--data", data, "--output", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "3 labelled cases" in result.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("both", [False, True])
def test_either_a_bundle_or_label_maps(data: Path, bundle: Path, predictions: Path, tmp_path: Path, both: bool) -> None:
    given = ("--bundle", bundle, "--predictions", predictions) if both else ()
    result = run(*given, "--data", data, "--output", tmp_path / "out")
    assert isinstance(result.exception, UserError)


def test_another_grid_is_one_sentence_and_status_2(data: Path, predictions: Path, tmp_path: Path) -> None:
    save(predictions / "b.nii.gz", label_map()[1:])
    command = ["evaluate", "--predictions", predictions, "--data", data, "--output", tmp_path / "out"]
    process = subprocess.run(
        [sys.executable, "-m", "monai_transfer", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert "b.nii.gz has shape 19×18×16" in process.stderr
    assert "Traceback" not in process.stderr
