"""Kills at random moments cost time and no bit."""

import subprocess
import sys
from pathlib import Path

import pytest

TRAININGS = ["train", "finetune", "adapt, the default recipe", "adapt --method DANN", "adapt --method MeanTeacher"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_kills_cost_no_bit(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "tests.workflows.kills", str(tmp_path), "3", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *_, resumed, equal, _ = (cell.strip() for cell in done.stdout.splitlines()[-1].split("|"))
    assert resumed == equal != "0"
