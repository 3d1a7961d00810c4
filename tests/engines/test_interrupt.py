"""Ctrl-C ends training in order."""

import os
import signal

import pytest
from ignite.engine import Engine

from monai_transfer.engines import GracefulInterrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_training_after_the_step_and_completes(number: int) -> None:
    steps: list[int] = []

    def step(engine: Engine, batch: int) -> None:
        steps.append(batch)
        if batch == 2:
            os.kill(os.getpid(), number)

    engine = Engine(step)
    handler = GracefulInterrupt()
    handler.attach(engine)
    before = signal.getsignal(number)
    engine.run(range(10), max_epochs=1)
    assert steps == [0, 1, 2]
    assert (handler.signal, handler.steps) == (number, 3)
    assert signal.getsignal(number) is before


def test_an_error_gives_the_signal_back() -> None:
    def fail(engine: Engine, batch: int) -> None:
        raise ValueError("broken")

    engine = Engine(fail)
    GracefulInterrupt().attach(engine)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="broken"):
        engine.run(range(2), max_epochs=1)
    assert signal.getsignal(signal.SIGINT) is before
