"""Ctrl-C ends training after the step in hand, so that the final checkpoint is written as usual."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

logger = logging.getLogger(__name__)


class GracefulInterrupt:
    """Turns the first Ctrl-C into an orderly end of training; the second one stops at once.

    ``interrupted`` tells afterwards whether it happened.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._previous: Any = None

    def attach(self, engine: Engine) -> None:
        """Watch for the signal while training runs; only the main thread can."""
        engine.add_event_handler(Events.STARTED, self._watch)
        engine.add_event_handler(Events.COMPLETED, self._restore)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._restore_and_raise)

    def _watch(self, engine: Engine) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            logger.warning("Interrupted: finishing this step and saving the checkpoint; press again to stop at once.")
            signal.signal(signal.SIGINT, self._previous)
            engine.terminate()

        self._previous = signal.signal(signal.SIGINT, stop)

    def _restore(self, engine: Engine) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _restore_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._restore(engine)
        raise error
