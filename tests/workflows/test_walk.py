"""How many files of the package a reader meets on the way from ``adapt`` to the first loss."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from monai_transfer.cli.adapt import adapt_command
from monai_transfer.losses import supervised
from monai_transfer.phantoms import write_phantoms
from tests.inference.test_walk import files_entered

MOST = {"none": 50, "shapes:unet": 62}
"""Files between ``adapt`` and a loss, from fresh weights and from a file: a new one takes the place of another, or is
one step too many. The last that was let in measures how large the target's bodies are."""


class Reached(BaseException):
    """The loss was about to be computed."""


def walk(folder: Path, weights: str) -> set[str]:
    """The files that are entered up to the loss."""
    write_phantoms(folder / "ct", modality="ct", subjects=3, size=0.2)
    write_phantoms(folder / "mr", modality="mr", subjects=3, seed=100, size=0.2)

    def reach(*_: object) -> None:
        raise Reached

    supervised.ClassBalancedDiceCELoss.forward = reach  # type: ignore[method-assign]

    def command(output: str) -> None:
        # so few steps that the target is looked at before the first one
        options = {"steps": 2, "spacing": "16", "device": "cpu", "oracle": False, "weights": weights}
        with suppress(Reached):
            adapt_command(target=folder / "mr", output=folder / output, source=[folder / "ct"], **options)

    command("warm")  # what is imported late is imported now
    return files_entered(lambda: command("walked"))


@pytest.mark.slow
@pytest.mark.parametrize("weights", MOST)
def test_from_adapt_to_a_loss(tmp_path: Path, weights: str) -> None:
    # in a process of its own, where no other test has left anything that is entered on the way
    command = [sys.executable, "-m", "tests.workflows.test_walk", str(tmp_path), weights]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    entered = json.loads(done.stdout.splitlines()[-1])
    assert "losses/supervised.py" in entered
    assert len(entered) <= MOST[weights], entered


if __name__ == "__main__":
    print(json.dumps(sorted(walk(Path(sys.argv[1]), sys.argv[2]))))
