"""A canary, code that touches a file, in every part of a bundle and of a data set, in every command that opens one.

The commands are found in the command line itself: one that takes a bundle or weights and is not listed here fails.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from monai.networks.nets import FlexibleUNet
from PIL import Image
from typer.testing import CliRunner

from monai_transfer.cli.app import app
from monai_transfer.errors import UserError

pytestmark = pytest.mark.usefixtures("quiet")

TAKES_BUNDLES = ("bundle", "weights", "spec")
"""Names of the parameters by which commands take a bundle, or weights that may be one."""

Arguments = Callable[[Path, Path, Path], list[str]]
COMMANDS: dict[str, Arguments] = {
    "segment": lambda bundle, data, out: [str(data / "images"), "--bundle", str(bundle), "--output", str(out)],
    "diagnose": lambda bundle, data, out: [str(data / "images"), "--bundle", str(bundle), "--output", str(out)],
    "explain": lambda bundle, data, out: [str(data / "images"), "--bundle", str(bundle), "--output", str(out)],
    "evaluate": lambda bundle, data, out: ["--bundle", str(bundle), "--data", str(data), "--output", str(out)],
    "benchmark adaptation": lambda bundle, data, out: [
        *("--source", str(data), "--target", str(data), "--weights", str(bundle), "--output", str(out)),
        *("--steps", "1", "--device", "cpu"),
    ],
    "adapt": lambda bundle, data, out: [
        *("--bundle", str(bundle), "--target", str(data), "--output", str(out), "--steps", "1", "--device", "cpu")
    ],
    "finetune": lambda bundle, data, out: [
        *("--weights", str(bundle), "--data", str(data), "--output", str(out), "--steps", "1", "--spacing", "4"),
        *("--device", "cpu", "--minimum", "0"),
    ],
    "benchmark judgement": lambda bundle, data, out: ["--bundle", str(bundle), "--data", str(data)],
    "benchmark scheduling": lambda bundle, data, out: [
        *("--bundle", str(bundle), "--scans", str(data / "images"), "--tasks", "1")
    ],
    "profile": lambda bundle, data, out: ["--bundle", str(bundle), "--data", str(data), "--output", str(out)],
    "export": lambda bundle, data, out: ["--bundle", str(bundle), "--output", str(out)],
    "weights verify": lambda bundle, data, out: [str(bundle), "--bundle", str(bundle), "--minimum", "0"],
    "weights inspect": lambda bundle, data, out: [str(bundle)],
}


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from _commands(command, full)
        else:
            yield full, command


FOUND = dict(_commands(typer.main.get_command(app)))
OPENING = {name for name, command in FOUND.items() if {p.name for p in command.params} & set(TAKES_BUNDLES)}


def test_every_command_that_opens_a_bundle_is_tried() -> None:
    assert set(COMMANDS) == OPENING


def test_every_command_that_may_run_a_bundle_has_trust() -> None:
    with_trust = {name for name, command in FOUND.items() if "trust" in {p.name for p in command.params}}
    # the first reads tensors and nothing else, the second these and the values of a grid
    assert with_trust == OPENING - {"weights inspect", "benchmark adaptation"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
        for number in range(3):
            voxels = rng.integers(0, 900, (12, 12, 12)).astype(np.int16)
            voxels = (voxels > 500).astype(np.uint8) if folder == "labels" else voxels
            nib.save(nib.Nifti1Image(voxels, np.diag([-2.0, -2.0, 2.0, 1.0])), root / folder / f"case_{number}.nii.gz")
    return root


def _bundle(root: Path, place: str, code: str) -> Path:
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    load = {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}
    inference: dict[str, Any] = {
        "imports": ["$import torch"],
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": [load]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
        "postprocessing": {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "keys": "pred"}]},
    }
    train: dict[str, Any] = {"network_def": dict(network), "labels": {"0": "background", "1": "organ"}}
    pred = {"num_channels": 2, "channel_def": {"0": "background", "1": "organ"}}
    metadata: dict[str, Any] = {
        "version": "0.1.0",
        "generator": "monai-transfer",
        "network_data_format": {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": pred}},
    }
    if place == "imports":
        inference["imports"] = train["imports"] = [code]
    elif place in ("initialize", "evaluator"):
        inference[place] = train[place] = [code]
    elif place == "network_def":
        inference["network_def"] = train["network_def"] = {**network, "bias": f"{code} is not None"}
    elif place == "preprocessing":
        inference["preprocessing"]["transforms"].append({"_target_": "Lambdad", "keys": "image", "func": code})
    elif place == "postprocessing":
        inference["postprocessing"]["transforms"].append({"_target_": "Lambdad", "keys": "pred", "func": code})
    elif place == "metadata":
        metadata["description"] = metadata["name"] = code
        pred["channel_def"]["1"] = code
        train["labels"]["1"] = code
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    for name, content in (("inference", inference), ("train", train), ("metadata", metadata)):
        (root / "configs" / f"{name}.json").write_text(json.dumps(content))
    torch.save(torch.nn.Conv3d(1, 2, 1).state_dict(), root / "models" / "model.pt")
    return root


def _run(name: str, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*name.split(), *arguments])


PLACES = ("imports", "initialize", "network_def", "preprocessing", "postprocessing", "metadata", "evaluator")


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "real"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(OPENING))
def test_foreign_code_never_runs_unasked(name: str, place: str, dry_run: bool, data: Path, tmp_path: Path) -> None:
    if dry_run and "dry_run" not in {p.name for p in FOUND[name].params}:
        return
    if name == "finetune" and not dry_run and place != "network_def":
        dry_run = True  # all that a fine-tuning takes of a bundle's code is its network; the training would be long
    canary = tmp_path / "canary"
    bundle = _bundle(tmp_path / "bundle", place, f"$open({str(canary)!r}, 'w')")
    result = _run(name, *COMMANDS[name](bundle, data, tmp_path / "out"), *(["--dry-run"] if dry_run else []))
    assert not canary.exists()
    assert not isinstance(result.exception, (AttributeError, TypeError, KeyError)), result.exception


@pytest.mark.parametrize("name", ["segment", "evaluate", "adapt", "finetune", "weights verify"])
def test_with_trust_it_runs(name: str, data: Path, tmp_path: Path) -> None:
    """The positive control: without it the test above could pass because nothing works."""
    canary = tmp_path / "canary"
    bundle = _bundle(tmp_path / "bundle", "network_def", f"$open({str(canary)!r}, 'w')")
    if name == "finetune":  # refused after the weights were tried, before the training
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("taken")
    _run(name, *COMMANDS[name](bundle, data, tmp_path / "out"), "--trust")
    assert canary.exists()


def test_a_dry_run_never_evaluates(data: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bundle = _bundle(tmp_path / "bundle", "network_def", f"$open({str(canary)!r}, 'w')")
    for name in ("segment", "evaluate", "adapt", "finetune"):
        _run(name, *COMMANDS[name](bundle, data, tmp_path / "out"), "--trust", "--dry-run")
    assert not canary.exists()


CODE = "$open('canary', 'w')"


@pytest.fixture
def named_by_code(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose label, case, channel and description are code; it would touch a file in the working folder."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "named"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for number, path in enumerate(sorted((data / folder).iterdir())):
            (root / folder / f"{CODE}{number or ''}.nii.gz").write_bytes(path.read_bytes())
    content = {"name": CODE, "description": CODE, "labels": {"background": 0, CODE: 1}, "channel_names": {"0": CODE}}
    (root / "dataset.json").write_text(json.dumps(content))
    _bundle(tmp_path / "plain", "nowhere", "")
    return root


@pytest.fixture
def diagnosed_by_code(named_by_code: Path) -> Path:
    """Pictures of two classes; one class, and the pictures themselves, are called by code."""
    rng, root = np.random.default_rng(0), named_by_code.with_name("diagnosed")
    for number in range(12):
        path = root / ("clear", CODE)[number % 2] / f"{CODE}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 200, (40, 40)).astype(np.uint8)).save(path)
    return root


QUICK = ("--steps", "1", "--spacing", "4", "--device", "cpu")
READING = ("data", "source", "target", "dataset", "inputs", "calibrate")
"""Names of the parameters by which commands take data."""

PLAIN = ("--bundle", "plain", "--trust", "--output", "out")
DATA_COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "segment": lambda root, _: [str(root / "images"), *PLAIN],
    "segment --adapt": lambda root, _: [str(root / "images"), *PLAIN],
    "diagnose": lambda root, _: [str(root / "images"), *PLAIN],
    "explain": lambda root, _: [str(root / "images"), *PLAIN],
    "pretrain --recipe masked": lambda root, _: [
        *("--data", str(root), "--output", "out", "--length", "32", "--batch-size", "1", *QUICK)
    ],
    "check": lambda root, _: [str(root)],
    "train": lambda root, _: ["--data", str(root), "--output", "out", *QUICK],
    "finetune": lambda root, weights: [
        *("--data", str(root), "--weights", str(weights), "--network", "resnet18", "--output", "out", *QUICK)
    ],
    "adapt": lambda root, _: [
        *("--source", str(root), "--target", str(root), "--output", "out", "--no-oracle", *QUICK)
    ],
    "evaluate": lambda root, _: ["--data", str(root), "--predictions", str(root / "labels"), "--output", "out"],
    "profile": lambda root, _: ["--data", str(root), "--cases", "*", *PLAIN],
    "translate": lambda root, _: ["--source", str(root), "--target", str(root), "--output", "out", *QUICK],
    "benchmark adaptation": lambda root, _: [
        *("--source", str(root), "--target", str(root), "--output", "out", "--methods", "Augmentation", *QUICK)
    ],
    "benchmark judgement": lambda root, _: ["--data", str(root), *PLAIN[:3]],
    "export --int8": lambda root, _: ["--int8", "--calibrate", str(root), "--force", *PLAIN],
}


UNFINISHED = {
    "diagnose", "explain", "evaluate", "translate", "benchmark adaptation", "benchmark judgement", "export",
}  # fmt: skip
"""Commands that refuse these data or this bundle, or that need a package which may be absent."""

DIAGNOSES = ("--task", "diagnosis", "--steps", "1", "--size", "32", "--device", "cpu", "--output", "out")
DIAGNOSIS_COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "check": lambda root: [str(root), "--task", "diagnosis"],
    "train": lambda root: ["--data", str(root), *DIAGNOSES],
    "adapt": lambda root: [
        *("--source", str(root), "--target", str(root), "--no-oracle", *DIAGNOSES[:4], *DIAGNOSES[6:])
    ],
}


def test_every_command_that_reads_data_is_tried() -> None:
    reading = {name for name, command in FOUND.items() if {p.name for p in command.params} & set(READING)}
    assert reading == {name.partition(" --")[0] for name in DATA_COMMANDS}


@pytest.mark.parametrize("name", DIAGNOSIS_COMMANDS)
def test_code_in_examinations_never_runs(name: str, diagnosed_by_code: Path, tmp_path: Path) -> None:
    result = _run(name, *DIAGNOSIS_COMMANDS[name](diagnosed_by_code))
    assert not (tmp_path / "canary").exists()
    assert result.exit_code == 0, result.exception


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet encoder, as a plain file."""
    path = tmp_path_factory.mktemp("weights") / "encoder.pt"
    torch.save(FlexibleUNet(1, 2, "resnet18", spatial_dims=3).encoder.state_dict(), path)
    return path


@pytest.mark.parametrize("name", DATA_COMMANDS)
@pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "real"])
def test_code_in_a_data_set_never_runs(
    name: str, dry_run: bool, named_by_code: Path, encoder: Path, tmp_path: Path
) -> None:
    command = name.partition(" --")[0]
    knows_dry_runs = "dry_run" in {p.name for p in FOUND[command].params}
    dry = ["--dry-run"] if dry_run and knows_dry_runs else []
    result = _run(name, *DATA_COMMANDS[name](named_by_code, encoder), *dry)
    assert not (tmp_path / "canary").exists()
    assert result.exception is None or isinstance(result.exception, (SystemExit, UserError)), result.exception
    if command not in UNFINISHED:
        assert result.exit_code == 0, result.exception
