"""How many files of the package a reader meets on the way from ``adapt`` to the first loss."""

from pathlib import Path

import pytest

from monai_transfer.cli.adapt import adapt_command
from monai_transfer.losses import supervised
from monai_transfer.phantoms import write_phantoms
from tests.inference.test_walk import files_entered

MOST = 43
"""Files between ``adapt`` and a loss: a new one takes the place of another, or is one step too many."""


class Reached(BaseException):
    """The loss was about to be computed."""


@pytest.mark.slow
def test_from_adapt_to_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(tmp_path / "ct", modality="ct", subjects=3, size=0.2)
    write_phantoms(tmp_path / "mr", modality="mr", subjects=3, seed=100, size=0.2)

    def reach(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(supervised.ClassBalancedDiceCELoss, "forward", reach)

    def command(output: str) -> None:
        options = {"steps": 2, "spacing": "16", "device": "cpu", "oracle": False}
        with pytest.raises(Reached):
            adapt_command(target=tmp_path / "mr", output=tmp_path / output, source=[tmp_path / "ct"], **options)

    command("warm")  # what is imported late is imported now
    entered = files_entered(lambda: command("walked"))
    assert "losses/supervised.py" in entered
    assert len(entered) <= MOST, sorted(entered)
