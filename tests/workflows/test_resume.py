"""A command that is cut off anywhere goes on, does nothing twice that is finished, and reports the same."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.methods import method_definitions
from monai_transfer.bundle.request import Domains
from monai_transfer.engines import AdaptationTrainer
from monai_transfer.errors import UserError
from monai_transfer.workflows import adaptation, checkpoints
from monai_transfer.workflows.adaptation import Adaptation, adapt, choose_domains, plan_adaptation
from monai_transfer.workflows.training import choose_cases, plan_training, train


class CutOffError(Exception):
    """Stands in for a kill between two parts of a command."""


@pytest.fixture(scope="module")
def chosen(domains: Path) -> Domains:
    return choose_domains(domains / "ct", domains / "mr")


def _adapt(chosen: Domains, output: Path, **options: Any) -> Adaptation:
    plan = plan_adaptation(chosen, device="cpu", spacing=[16.0] * 3, steps=4)
    return adapt(chosen, plan, output, **options)


def _left(result: Adaptation) -> dict[str, Any]:
    return {
        "weights": {arm: bundle.weights.read_bytes() for arm, bundle in result.arms.items()},
        "report": {key: value for key, value in result.summary.as_report().items() if key != "hardware"},
        "models": sorted(path.name for path in (result.bundle.root / "models").iterdir()),
    }


def _cut(patch: pytest.MonkeyPatch, module: ModuleType, name: str, *, after: bool = False) -> None:
    original: Callable[..., Any] = getattr(module, name)

    def cut(*values: Any, **named: Any) -> None:
        if after:
            original(*values, **named)
        raise CutOffError

    patch.setattr(module, name, cut)


@pytest.mark.slow
def test_an_adaptation_is_cut_off_between_all_its_parts(
    chosen: Domains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(*bundles_and_judge: Any) -> Any:
        choice = adaptation_choice(*bundles_and_judge)
        return type(choice)("source_only", "for the test", choice.adapted, choice.source_only)

    adaptation_choice = adaptation.choose_weights
    monkeypatch.setattr(adaptation, "choose_weights", kept)
    whole = _left(_adapt(chosen, tmp_path / "whole"))
    steps: list[str] = []
    iteration = AdaptationTrainer._iteration
    monkeypatch.setattr(AdaptationTrainer, "_iteration", lambda *values: (steps.append("step"), iteration(*values))[1])
    output = tmp_path / "cut"
    # before the choice is written down, while its leftovers are removed, and when source-only's weights are in place
    for module, name, after in (
        (checkpoints, "score_checkpoints", True),
        (checkpoints, "remove_checkpoints", False),
        (adaptation, "keep_source_only", True),
    ):
        with monkeypatch.context() as patch:
            _cut(patch, module, name, after=after)
            with pytest.raises(CutOffError):
                _adapt(chosen, output, resume=True)
    assert _left(_adapt(chosen, output, resume=True)) == whole
    assert len(steps) == 3 * 4  # no arm is trained twice


@pytest.mark.slow
def test_arms_side_by_side_end_with_the_same_bits(chosen: Domains, tmp_path: Path) -> None:
    said: list[str] = []
    beside = _left(_adapt(chosen, tmp_path / "beside", jobs=3, say=said.append))
    assert {"2/3 source-only: beside the adapted network", "1/3 adapted: 4 steps on cpu"} <= set(said)
    assert beside == _left(_adapt(chosen, tmp_path / "alone"))
    assert not list((tmp_path / "beside").rglob("*.log"))
    said.clear()
    assert _left(_adapt(chosen, tmp_path / "beside", jobs=3, resume=True, say=said.append)) == beside
    assert [line.rpartition(", ")[2] for line in said] == ["finished before"] * 3  # no process was begun for them


@pytest.mark.slow
def test_an_adaptation_that_refuses_to_begin_leaves_nothing_of_the_arms_beside_it(
    chosen: Domains, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="batch normalisation"):
        _adapt(chosen, tmp_path / "bundle", jobs=2, methods=method_definitions(["AdaBN"]))
    assert not (tmp_path / "bundle").exists()
    assert not active_children()


def test_what_was_trained_in_another_way_is_refused_and_with_overwrite_replaced(domains: Path, tmp_path: Path) -> None:
    split = choose_cases(domains / "ct")
    plan = plan_training(split, device="cpu", spacing=(16.0, 16.0, 16.0), steps=1)
    other = plan.with_options(learning_rate=0.01)
    said: list[str] = []
    train(split, plan, tmp_path / "bundle", resume=True)
    trained = (tmp_path / "bundle" / "models" / "model.pt").read_bytes()
    with pytest.raises(UserError, match=r"cannot be gone on with: learning_rate in configs/train.json"):
        train(split, other, tmp_path / "bundle", resume=True)
    train(split, plan, tmp_path / "bundle", resume=True, say=said.append)
    assert said == ["training: 1 steps on cpu, finished before"]
    assert (tmp_path / "bundle" / "models" / "model.pt").read_bytes() == trained
    train(split, other, tmp_path / "bundle", resume=True, overwrite=True)
    assert (tmp_path / "bundle" / "models" / "model.pt").read_bytes() != trained
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(UserError, match="exists and is not empty"):
        train(split, plan, tmp_path / "notes", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_command_says_what_to_type_and_typing_it_helps(domains: Path, tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    output = tmp_path / "bundle"
    command = [sys.executable, "-m", "monai_transfer", "train", "--data", str(domains / "ct"), "--output", str(output)]
    command += ["--steps", "75", "--spacing", "16", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and not list(output.glob("checkpoints/step_*.pt")):
        pass
    os.kill(process.pid, number)
    _, told = process.communicate()
    assert process.returncode == 128 + number, told
    assert told.count("give the same command with --resume to go on after step") == 1
    assert "Traceback" not in told
    assert not BundleFolder(output).finished
    again = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=True)
    assert "goes on after step" in again.stderr
    assert json.loads(again.stdout)["bundle"] == str(output)
    assert BundleFolder(output).finished
    lines = [json.loads(line) for line in (output / "eval" / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
