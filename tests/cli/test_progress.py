"""Progress in lines of JSON, for programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ignite.engine import Engine
from monai.utils.enums import CommonKeys as Keys

from monai_transfer import progress
from monai_transfer.engines import TrainingProgress


def test_a_command_tells_in_lines_what_is_done(tmp_path: Path) -> None:
    options = ["--modality", "ct", "--subjects", "2", "--size", "0.2", "--progress-lines", "--json"]
    command = ["phantom", *options, "--output", str(tmp_path / "ct")]
    done = subprocess.run(
        [sys.executable, "-m", "monai_transfer", *command], capture_output=True, text=True, check=True
    )
    json.loads(done.stdout)  # the result stands alone on standard output
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1] == {"progress": "phantoms", "done": 2, "total": 2, "name": lines[-1]["name"]}


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_TRANSFER_PROGRESS_LINES", "1")
    monkeypatch.setattr(progress, "_last", {})


def test_a_training_tells_now_and_then_and_at_its_end(wanted: None, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Engine(lambda engine, batch: {Keys.LOSS: float(batch)})
    TrainingProgress("adapting").attach(trainer)
    trainer.run(list(range(100)), max_epochs=2)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == {"progress": "adapting", "done": 1, "total": 200, "loss": 0.0}
    assert lines[-1] == {"progress": "adapting", "done": 200, "total": 200, "loss": 99.0}
    assert len(lines) < 10  # and not a line for each step


def test_names_stay_in_their_line(wanted: None, capsys: pytest.CaptureFixture[str]) -> None:
    progress.tell_progress("checking", 1, 1, name="a\nb\x1b[31m")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["name"] == "a\nb\x1b[31m"
    assert "\x1b" not in line


def test_nobody_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONAI_TRANSFER_PROGRESS_LINES", raising=False)
    progress.tell_progress("checking", 1, 1)
    assert capsys.readouterr().err == ""
