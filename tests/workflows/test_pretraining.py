"""Both recipes from their command to a bundle that evaluates, infers in plain MONAI, and starts a training."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from safetensors import safe_open
from typer.testing import CliRunner

from monai_transfer.bundle import pretraining_plan
from monai_transfer.bundle.pretraining_plan import PretrainingPlan
from monai_transfer.cli.app import app
from monai_transfer.engines import AdaptationTrainer
from monai_transfer.errors import UserError
from monai_transfer.weights import load_pretrained
from monai_transfer.workflows.pretraining import pretrain

RUNNER = CliRunner()
QUICK = ["--steps", "2", "--length", "32", "--batch-size", "1", "--device", "cpu"]


def pretrained(output: Path, *options: str) -> dict:
    result = RUNNER.invoke(app, ["pretrain", "--output", str(output), *QUICK, *options, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def network_of(bundle: Path, config: str) -> torch.nn.Module:
    parser = ConfigParser(json.loads((bundle / "configs" / f"{config}.json").read_text()))
    return parser.get_parsed_content("network_def")


def infer_in_plain_monai(bundle: Path, images: Path, output: Path) -> None:
    code = (
        "import sys; sys.modules['monai_transfer'] = None\n"
        "from monai.bundle import run\n"
        f"run(config_file={str(bundle / 'configs' / 'inference.json')!r}, bundle_root={str(bundle)!r}, "
        f"workflow_type='inference', dataset_dir={str(images)!r}, output_dir={str(output)!r}, device='cpu')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_shapes_for_a_resnet(domains: Path, tmp_path: Path) -> None:
    """Inference has the network that was trained, and evaluation measures shapes that were not."""
    bundle = tmp_path / "shapes"
    made = pretrained(bundle, "--network", "resnet10", "--batch-size", "2", "--objective", "segmentation")
    assert made["steps"] == 2
    network = network_of(bundle, "inference")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    assert type(network).__name__ == "FlexibleUNet"
    configs = [str(bundle / "configs" / f"{name}.json") for name in ("train", "evaluate")]
    quick = {"steps_per_epoch": 1, "device": torch.device("cpu"), "output_dir": str(tmp_path / "eval")}
    run(config_file=configs, bundle_root=str(bundle), logging_file=False, **quick)
    assert "val_loss" in (tmp_path / "eval" / "metrics.csv").read_text()


def test_minutes_that_end_within_an_epoch_count_its_steps(tmp_path: Path) -> None:
    """The report, and the header of the weights, say all that was done."""
    made = pretrained(tmp_path / "shapes", "--steps", "300", "--minutes", "0.0001")
    assert made["steps"] == 1
    assert made["losses"]["contrast"] > 0
    network = network_of(tmp_path / "shapes", "inference")
    assert "1 steps, seed 0" in load_pretrained(network, made["weights"]).notes[0]


def test_a_pretraining_that_was_cut_off_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from a finished epoch, with the pictures that would have come."""
    monkeypatch.setattr(pretraining_plan, "_EPOCH", 1)
    plan = PretrainingPlan(device=torch.device("cpu"), steps=3, length=32, batch_size=1)
    whole = pretrain(plan, tmp_path / "whole").bundle.weights.read_bytes()
    steps: list[str] = []
    iteration = AdaptationTrainer._iteration

    def cut(*values: Any) -> Any:
        steps.append("step")
        if len(steps) == 3:
            raise UserError("cut off")
        return iteration(*values)

    monkeypatch.setattr(AdaptationTrainer, "_iteration", cut)
    with pytest.raises(UserError, match="cut off"):
        pretrain(plan, tmp_path / "cut")
    resumed = pretrain(plan, tmp_path / "cut", resume=True)
    assert resumed.bundle.weights.read_bytes() == whole
    assert len(steps) < 6  # two, the one that failed, and not all three again


def test_volumes_of_two_modalities_with_hidden_blocks(domains: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "masked"
    folders = ["--data", str(domains / "ct"), "--data", str(domains / "mr"), "--spacing", "12"]
    made = pretrained(bundle, "--recipe", "masked", *folders)
    assert set(made["losses"]) == {"volumes_1/supervised", "volumes_2/supervised"}
    with safe_open(made["weights"], framework="pt") as file:
        card = file.metadata()
    assert card["pretrained_on"] == "hidden blocks of 3 CT volume(s) and 4 MR volume(s), 2 steps, seed 0"
    loaded = load_pretrained(network_of(bundle, "train"), made["weights"])
    assert loaded.encoder_share == 1
    assert loaded.notes[0].startswith("Pretrained on hidden blocks of 3 CT")

    image = domains / "ct" / "images" / "ct_001.nii.gz"
    images = tmp_path / "images"
    images.mkdir()
    (images / image.name).write_bytes(image.read_bytes())
    infer_in_plain_monai(bundle, images, tmp_path / "filled")
    filled = nib.load(tmp_path / "filled" / image.name)
    assert filled.shape[:3] == nib.load(image).shape
    assert filled.get_data_dtype() == np.float32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "masked"], "name their folders with --data"),
        (["--data", "somewhere"], "--data goes with --recipe masked"),
        (["--recipe", "masked", "--data", "nowhere"], "nowhere"),
        (["--recipe", "guess"], "guess"),
        (["--network", "resnet10"], "--batch-size 1 is too small for resnet10"),
    ],
)
def test_wrong_options_make_nothing(tmp_path: Path, options: list[str], words: str) -> None:
    result = RUNNER.invoke(app, ["pretrain", "--output", str(tmp_path / "out"), *QUICK, *options])
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert not (tmp_path / "out").exists()
