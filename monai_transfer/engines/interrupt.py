"""Ctrl-C or SIGTERM ends training after the step in hand, so that the final checkpoint is written as usual."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

from monai_transfer.processes import any_process, world_size

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch systems and containers send some seconds before they kill."""


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
