"""Two processes with one case each take the steps of one process with two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.engines import AdaptationTrainer, read_history
from monai_transfer.errors import UserError
from monai_transfer.phantoms import write_phantoms
from tests.engines.common_training import METHODS, RECIPE

TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _run(*command: str, fails: bool = False) -> str:
    done = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_cases(tmp_path: Path) -> None:
    module = "tests.engines.common_training"
    _run(*TOGETHER, "-m", module, str(tmp_path / "two.pt"), "1")
    for cases in ("1", "2"):
        _run(sys.executable, "-m", module, str(tmp_path / f"one_with_{cases}.pt"), cases)
    read = {path.stem: torch.load(path, weights_only=True) for path in tmp_path.iterdir()}
    for method in (*METHODS, RECIPE):
        two, one, half = (read[name][method] for name in ("two", "one_with_2", "one_with_1"))
        for name, weights in one.items():
            torch.testing.assert_close(two[name], weights, rtol=1e-4, atol=1e-5)
        assert any((half[name] - weights).abs().max() > 1e-3 for name, weights in one.items())


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("domains")
    write_phantoms(folder / "ct", modality="ct", subjects=4, seed=0, size=0.3)
    write_phantoms(folder / "mr", modality="mr", subjects=4, seed=100, size=0.3)
    return folder


@pytest.mark.slow
def test_adapt_under_torchrun(domains: Path, tmp_path: Path) -> None:
    command = ["-m", "monai_transfer", "adapt", "--source", str(domains / "ct"), "--target", str(domains / "mr")]
    command += ["--output", str(tmp_path / "bundle"), "--steps", "4", "--spacing", "16,16,16", "--device", "cpu"]
    _run(*TOGETHER, *command)
    for place in ("", "comparison/source_only", "comparison/oracle"):
        root = tmp_path / "bundle" / place
        assert (root / "models" / "model.pt").is_file()
        assert [line["step"] for line in read_history(root / "eval" / "history.jsonl")] == [4]
        assert len(list((root / "eval").glob("events.*"))) == 1


@pytest.mark.slow
def test_a_bundle_under_torchrun(domains: Path, tmp_path: Path) -> None:
    bundle = BundleFolder.create("segmentation_transfer", tmp_path / "bundle")
    network = {**bundle.read("train")["network_def"], "channels": [4, 8, 8, 8, 8]}
    small = {"max_epochs": 2, "steps_per_epoch": 2, "spacing": [16, 16, 16], "roi_size": [32, 32, 32]}
    bundle.change("train", {"dataset_dir": str(domains / "ct"), "network_def": network, **small})
    train, overlay = (str(bundle.root / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train"))
    run = ["-m", "monai.bundle", "run", "--bundle_root", str(bundle.root), "--config_file"]
    told = _run(*TOGETHER, *run, train, fails=True)
    assert "2 processes were started, and this training is not distributed" in told
    assert not bundle.weights.exists()
    _run(*TOGETHER, *run, json.dumps([train, overlay]))
    assert bundle.weights.is_file()
    history = bundle.root / "eval" / "history.jsonl"
    assert [line["step"] for line in read_history(history)] == [2, 4]
    # the newest state is that of step 2: one process goes on from it to step 6, and two from step 4 of that one
    told = _run(sys.executable, *run, json.dumps([train]), "--resume", "true", "--max_epochs", "3")
    assert "it began with processes 2, now 1" in told
    assert [line["step"] for line in read_history(history)] == [2, 4, 6]
    told = _run(*TOGETHER, *run, json.dumps([train, overlay]), "--resume", "true", "--max_epochs", "4")
    assert "it began with processes 1, now 2" in told
    assert [line["step"] for line in read_history(history)] == [2, 4, 6, 8]
    # one that fails ends the other, which waits for it, and says why
    failing = tmp_path / "failing.json"
    failing.write_text(json.dumps({"run": ["$@train#trainer.run() if rank() == 0 else 1 / 0"]}))
    told = _run(*TOGETHER, *run, json.dumps([train, overlay, str(failing)]), fails=True)
    assert "ZeroDivisionError" in told


def test_processes_that_do_not_train_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    network = torch.nn.Conv2d(1, 2, 1)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    with pytest.raises(UserError, match=r"2 processes were started, .* add configs/multi_gpu_train.json"):
        AdaptationTrainer("cpu", 1, [], network, optimizer, torch.nn.CrossEntropyLoss(), epoch_length=1)


def test_a_bundle_without_the_overlay_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = BundleFolder.create("diagnosis_transfer", tmp_path / "bundle")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="cannot be trained by several processes"):
        bundle.run("train")
