"""What libraries say while they work on a case belongs into its entry of the manifest, not onto the terminal.

Python's warnings and loggers are global, while one case is read, another computed and a third written at the same time.
So each thread says which case it works on, and what comes from no such thread goes where it always went.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

_LOGGERS = ("", "nibabel.global")
"""The loggers whose handlers are put aside: the root, and nibabel's, which has a handler of its own."""

_MOST = 20
"""Messages that are kept of one case; a library that complains of every slice says nothing new after these."""


class Chatter(logging.Handler):
    """Gathers warnings and log records per case while it is open.

    Example:
        >>> with Chatter() as chatter:
        ...     heard = []
        ...     with chatter.about(heard):
        ...         warnings.warn("an odd header", stacklevel=1)
        >>> heard
        ['an odd header']
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._case = threading.local()
        self._filters: warnings.catch_warnings[None] | None = None
        self._show: Callable[..., Any] = warnings.showwarning
        self._aside: dict[str, list[logging.Handler]] = {}

    def __enter__(self) -> Self:
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        # Otherwise Python shows each line's warning once, and only the first of many like cases would have it.
        warnings.simplefilter("always")
        self._show, warnings.showwarning = warnings.showwarning, self._warned
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._aside[name], logger.handlers = logger.handlers, [self]
        return self

    def __exit__(self, *_: object) -> None:
        for name, handlers in self._aside.items():
            logging.getLogger(name).handlers = handlers
        if self._filters is not None:
            self._filters.__exit__(None, None, None)

    @contextmanager
    def about(self, heard: list[str]) -> Iterator[None]:
        """Gather into ``heard``, each message once, what is said in this thread."""
        self._case.heard = heard
        try:
            yield
        finally:
            self._case.heard = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        if not self._take(record.getMessage()):
            for handler in self._aside[record.name if record.name in self._aside else ""]:
                if record.levelno >= handler.level:
                    handler.handle(record)

    def _warned(self, message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
        if issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            return  # for programmers, not about the case
        if not self._take(str(message)):
            self._show(message, category, *where, **further)

    def _take(self, message: str) -> bool:
        heard = getattr(self._case, "heard", None)
        if heard is None:
            return False
        sentence = " ".join(message.split())
        if sentence not in heard and len(heard) < _MOST:
            heard.append(sentence)
        return True
