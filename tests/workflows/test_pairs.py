"""A bench over real pairs of phantoms: one table, a folder per pair, resumed and side by side."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_transfer.bundle.pairs import read_pairs
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.cli.app import app
from monai_transfer.errors import Interrupted, UserError
from monai_transfer.workflows import side_by_side as module
from monai_transfer.workflows.adaptation import plan_from
from monai_transfer.workflows.pairs import compare_pairs, plan_pairs
from monai_transfer.workflows.scoreboard import choose_arms, trained
from monai_transfer.workflows.scored_run import PlannedRun

RUNNER = CliRunner()
OPTIONS = PlanOptions(device="cpu", steps=2, spacing=(16.0, 16.0, 16.0))


@pytest.fixture
def pairs(domains: Path) -> Path:
    """Two pairs of phantoms, one of them kept back, and one whose source is absent; relative to the file."""
    path = domains / "pairs.toml"
    path.write_text(
        """
[[pairs]]
name = "ct-mr"
source = "ct"
target = "mr"
test_cases = ["mr_004"]
steps = 3
[[pairs]]
name = "mr-ct"
source = "mr"
target = "ct"
test_cases = ["ct_003"]
kept_back = true
[[pairs]]
name = "broken"
source = "absent"
target = "mr"
""",
        encoding="utf-8",
    )
    return path


def _command(pairs: Path, *more: str) -> list[str]:
    return ["benchmark", "adaptation", "--pairs", str(pairs), "--device", "cpu", *more]


@pytest.mark.slow
def test_one_table_of_all_pairs_and_a_second_call_trains_nothing(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench"
    options = ["--output", str(output), "--methods", "Augmentation,AdaBN", "--seeds", "0", "--steps", "2"]
    result = RUNNER.invoke(app, _command(pairs, *options, "--spacing", "16", "--json"))
    assert result.exit_code == 1, result.output  # AdaBN needs batch normalisation, and one source is absent
    report = json.loads((output / "pairs.json").read_text())
    assert set(report["pairs"]) == {"ct-mr", "mr-ct", "broken"}
    assert "absent" in report["pairs"]["broken"]["error"]
    assert report["pairs"]["mr-ct"]["kept_back"]
    assert "batch normalisation" in report["pairs"]["ct-mr"]["failures"]["AdaBN"]
    assert report["pairs"]["ct-mr"]["peak_memory_mb"] > 0
    assert report["methods"]["Augmentation"]["dice"] == report["pairs"]["ct-mr"]["methods"]["Augmentation"]["dice"]
    assert {path.name for path in output.iterdir()} == {
        "ct-mr",
        "mr-ct",
        "pairs.html",
        "pairs.json",
        "pairs.csv",
        "labels.csv",
    }
    assert (output / "ct-mr" / "scoreboard.html").is_file()
    assert result.stdout.rstrip().endswith("}")

    bench = plan_pairs(read_pairs(pairs), OPTIONS)
    table = compare_pairs(bench, output, arms=choose_arms(["Augmentation"]), seeds=[0])
    assert bench.reused == 6
    assert table.summary("Augmentation", ["mr-ct"]).dice == report["methods"]["Augmentation"]["kept_back"]["dice"]


def test_every_arm_of_every_pair_starts_from_the_weights(pairs: Path) -> None:
    bench = plan_pairs(read_pairs(pairs), OPTIONS, "shapes:unet")
    assert {plan.weights for _, plan in bench.planned.values()} == {"shapes:unet"}
    assert {plan.steps for _, plan in bench.planned.values()} == {2}


def test_an_unexpected_fault_of_one_pair_costs_the_others_nothing(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: PlannedRun, say: object = None) -> None:
        raise ZeroDivisionError(run.folder.parents[2].name)

    monkeypatch.setattr(PlannedRun, "train", train)
    bench = plan_pairs(read_pairs(pairs), OPTIONS)
    table = compare_pairs(bench, tmp_path, arms=choose_arms(["Augmentation"]), seeds=[0])
    assert table.failures["ct-mr"] == "ZeroDivisionError: ct-mr"
    assert table.failures["mr-ct"] == "ZeroDivisionError: mr-ct"
    assert "could not be scored" in (tmp_path / "pairs.html").read_text()


@pytest.mark.slow
def test_runs_side_by_side_hand_back_scores_or_a_sentence(pairs: Path, tmp_path: Path) -> None:
    runs = [_first_run(pairs, tmp_path / name, method=name) for name in ("Augmentation", "AdaBN")]
    with module.side_by_side(runs, 2) as train:
        scored = train(runs[0], print)
        with pytest.raises(UserError, match="batch normalisation"):
            train(runs[1], print)
    assert scored == runs[0].finished()
    assert set(scored.evidence) == set(scored.table.labels)
    assert not list(tmp_path.rglob("*.log")) or [path.parent.name for path in tmp_path.rglob("*.log")] == ["AdaBN"]


@pytest.mark.slow
def test_runs_on_a_cluster_end_with_the_same_bits(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    runs = [_first_run(pairs, tmp_path / name, method=name) for name in ("Augmentation", "AdaBN")]
    with trained(runs, 1, "local:1") as train:
        scored = train(runs[0], print)
        with pytest.raises(UserError, match="batch normalisation"):
            train(runs[1], print)
    alone = _first_run(pairs, tmp_path / "alone")
    assert alone.train().table.as_dict() == scored.table.as_dict()
    weights = [(run.folder / "models" / "model.pt").read_bytes() for run in (runs[0], alone)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_process_that_dies_is_one_sentence(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_train_alone", _die)
    run = _first_run(pairs, tmp_path)
    with module.side_by_side([run], 2) as train, pytest.raises(UserError, match=r"status -9.*--jobs"):
        train(run, print)


def _die(*_: object) -> None:
    signal.raise_signal(signal.SIGKILL)


@pytest.mark.slow
def test_an_interruption_ends_the_processes(pairs: Path, tmp_path: Path) -> None:
    run = _first_run(pairs, tmp_path, steps=100_000)
    stopped = Interrupted("stop", signal.SIGTERM)
    with pytest.raises(Interrupted), module.side_by_side([run], 2):
        raise stopped
    assert not module.active_children()
    assert run.finished() is None


def _first_run(pairs: Path, folder: Path, steps: int = 2, method: str = "Augmentation") -> PlannedRun:
    chosen = read_pairs(pairs)[0]
    domains = chosen.domains()
    plan = plan_from(
        domains, "none", **chosen.options(PlanOptions(device="cpu", steps=steps, spacing=(16.0, 16.0, 16.0)))
    )
    return PlannedRun(domains, plan, choose_arms([method])[0], folder / "run", [])


def test_the_command_says_what_it_would_do(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, _command(pairs, "--dry-run", "--seeds", "0,1", "--methods", "Default"))
    assert result.exit_code == 1  # one source is absent
    said = " ".join(result.output.split())
    assert "ct-mr CT → MR" in said
    assert "3 steps each" in said
    assert "broken: " in said
    assert "Default; 2 seed(s) on 2 pair(s)." in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--source", "x"), "omit --source"),
        (("--test-cases", "x"), "omit --test-cases"),
        (("--jobs", "0"), "--jobs 0 is not possible"),
        (("--methods", "Magic"), "Magic"),
        (("--steps", "0"), "--steps 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(pairs: Path, more: tuple[str, str], said: str) -> None:
    result = RUNNER.invoke(app, _command(pairs, *more, "--dry-run"))
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def test_without_pairs_source_and_target_are_needed(pairs: Path) -> None:
    for given, missing in (((), "--source"), (("--source", "x"), "--target")):
        result = RUNNER.invoke(app, ["benchmark", "adaptation", *given])
        assert isinstance(result.exception, UserError)
        assert str(result.exception).startswith(f"{missing} is missing")


def test_the_pairs_need_not_lie_where_the_command_is_given(pairs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "lists" / "mine.toml"
    moved.parent.mkdir()
    shutil.copy2(pairs, moved)
    assert set(plan_pairs(read_pairs(moved), OPTIONS).failures) == {"ct-mr", "mr-ct", "broken"}
