"""A progress bar with loss and time left, on standard error and only in a terminal; lines where these are asked for."""

import os

from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from monai_transfer.processes import rank
from monai_transfer.progress import LINES, tell_progress


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
