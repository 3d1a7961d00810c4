"""A signal ends a command with one sentence and 128 more than its number."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from monai_transfer.bundle.training import sentence_behind
from monai_transfer.cli import app
from monai_transfer.errors import Interrupted, UserError, interruption_behind


@pytest.fixture(autouse=True)
def _handlers() -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_a_command_works(
    name: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(sys, "argv", ["monai-transfer", "work"])
    app.app.command("work")(work)  # through the framework, which swallows KeyboardInterrupt
    try:
        with pytest.raises(SystemExit) as ended:
            app.main()
    finally:
        app.app.registered_commands.pop()
    assert ended.value.code == status
    assert "what was finished is kept" in capsys.readouterr().err


def test_an_error_that_stands_behind_itself_has_an_end() -> None:
    try:
        try:
            raise UserError("The network is too large.")
        except UserError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as wrapper:
        meant = wrapper.__cause__
        assert isinstance(meant, UserError)
        meant.__cause__ = wrapper  # as ``raise meant from wrapper`` leaves it
    assert interruption_behind(meant) is None
    assert sentence_behind(meant, Path()) is meant


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_an_interrupted_training_says_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrapped: bool
) -> None:
    def work() -> None:
        try:
            raise Interrupted("Its weights lie in models/model.pt.", signal.SIGTERM)
        except Interrupted as error:
            if wrapped:  # as pydoc.locate does where the signal comes during an import
                raise UserError("There is a problem.") from error
            raise

    monkeypatch.setattr(sys, "argv", ["monai-transfer", "work"])
    app.app.command("work")(work)
    try:
        with pytest.raises(SystemExit) as ended:
            app.main()
    finally:
        app.app.registered_commands.pop()
    assert ended.value.code == 143
    assert "Its weights lie in models/model.pt." in capsys.readouterr().err
