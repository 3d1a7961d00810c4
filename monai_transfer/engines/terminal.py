"""Whoever started a training: what they see of it in a terminal, and how it ends in order when they stop it."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monai_transfer.processes import any_process, rank, world_size
from monai_transfer.progress import LINES, tell_progress

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch systems and containers send some seconds before they kill."""


class TrainingProgress:
    """Shows step, loss and the time left of a whole training run.

    Args:
        title: what is being trained.

    Example:
        >>> trainer = Engine(lambda engine, batch: {Keys.LOSS: 0.0})
        >>> TrainingProgress("adapting").attach(trainer)  # silent where standard error is not a terminal
        >>> trainer.run([0, 1]).iteration
        2
    """

    def __init__(self, title: str = "training") -> None:
        self.title = title
        self._bar: Progress | None = None

    def attach(self, engine: Engine) -> None:
        """Open the bar when training starts and close it however training ends."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)

    def _open(self, engine: Engine) -> None:
        console = Console(stderr=True)
        if not console.is_terminal or rank() > 0 or LINES in os.environ:
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        total = engine.state.max_epochs * engine.state.epoch_length
        self._task = self._bar.add_task(self.title, total=total, loss="–", completed=engine.state.iteration)
        self._bar.start()

    def _advance(self, engine: Engine) -> None:
        if self._bar is not None:
            loss = float(engine.state.output[Keys.LOSS])
            self._bar.update(self._task, completed=engine.state.iteration, loss=f"{loss:.3f}")
        elif LINES in os.environ and rank() == 0:
            total = engine.state.max_epochs * engine.state.epoch_length
            loss = float(engine.state.output[Keys.LOSS])
            tell_progress(self.title, engine.state.iteration, total, loss=round(loss, 6))

    def _close(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _close_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error


class GracefulInterrupt:
    """Turns the first signal into an orderly end of training; the second one stops at once.

    Attributes:
        signal: the signal that ended the training; ``None`` when none did.
        steps: the optimizer steps that were done by then.

    Example:
        >>> from ignite.engine import Engine
        >>> handler = GracefulInterrupt()
        >>> handler.attach(Engine(lambda engine, batch: None))
        >>> handler.signal is None
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.steps = 0
        self._previous: dict[int, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Watch for the signals while training runs; only the main thread can."""
        engine.add_event_handler(Events.STARTED, self._watch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_together)
        engine.add_event_handler(Events.COMPLETED, self._restore)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._restore_and_raise)

    def _watch(self, engine: Engine) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.signal = number
            logger.warning("Interrupted: finishing this step and saving the checkpoint; press again to stop at once.")
            self._give_back()
            if world_size() == 1:
                engine.terminate()

        self._previous = {number: signal.signal(number, stop) for number in SIGNALS}

    def _stop_together(self, engine: Engine) -> None:
        """End several processes after the same step, whichever of them the signal reached."""
        if world_size() > 1 and any_process(self.signal is not None):
            self.signal = self.signal or signal.SIGTERM
            engine.terminate()

    def _give_back(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def _restore(self, engine: Engine) -> None:
        self.steps = engine.state.iteration
        self._give_back()

    def _restore_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._restore(engine)
        raise error
