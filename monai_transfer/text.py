"""Words from elsewhere: those of data sets, bundles and file names made harmless, those of libraries gathered.

A label, a case or a folder may be called anything: a spreadsheet's formula, a page's script, an escape sequence, an
expression. What leaves the package passes here, or through something that escapes by itself (JSON, the pages'
templates), and is shown as it is.

So does what goes into a bundle's configuration, where ``$`` at the start makes code of a string, ``@`` a reference and
``%`` the content of a file, and ``#`` becomes ``::`` wherever it stands. A string that holds any of them is written as
a Python literal, the one kind of expression that computes nothing, with each such sign spelled as an escape; all others
stay as they are, so that configurations stay readable.

What libraries say while they work on a case belongs to the case, in its entry of a manifest, and not onto the terminal.
"""

import ast
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNS = "$@%#:"
"""What the parser gives a meaning to; a lone colon has none, but two of them are a ``#``."""

_UNSEEN = "?"
# what a spreadsheet takes for the beginning of a formula, in ordinary and in full width
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
# what Markdown, or HTML inside of it, gives a meaning; underscores inside words have none and are common in names
_MARKDOWN = re.compile(r"([\\`*\[\]{}#|~$!])")

_LOGGERS = ("", "nibabel.global")
"""The loggers whose handlers are put aside: the root, and nibabel's, which has a handler of its own."""

_LONGEST_QUOTE = 200
"""Characters of what a library says that fit into a sentence of our own."""

_MOST_HEARD = 20
"""Messages that are kept of one case; a library that complains of every slice says nothing new after these."""


def one_line(text: str) -> str:
    r"""The text without control characters: white space becomes a space, all else that cannot be seen ``?``.

    Escape sequences move a terminal's cursor, marks of writing direction turn a file's ending around, and halves of
    characters, from file names that are not UTF-8, cannot be written at all.

    Example:
        >>> one_line("liver\x1b[31m\nspleen")
        'liver?[31m spleen'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else _UNSEEN for c in text)


def line_of(error: Exception, *, last: bool = False) -> str:
    r"""The first line, or the last, of what an error says; its kind where it says nothing.

    Libraries tell of every retry, and quote whatever a file or a server gave them.

    Example:
        >>> line_of(OSError("no route to the host.\nretried 5 times")), line_of(KeyError())
        ('no route to the host', 'KeyError')
    """
    lines = str(error).strip().splitlines() or [""]
    return one_line(lines[-1 if last else 0].strip()).rstrip(".")[:_LONGEST_QUOTE] or type(error).__name__


def csv_cell(value: Any) -> Any:
    r"""The value of a CSV field; a text that a spreadsheet would take for a formula gets a ``'`` before it.

    Example:
        >>> csv_cell("=cmd|' /C calc'!A0"), csv_cell(-0.5)
        ("'=cmd|' /C calc'!A0", -0.5)
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def markdown(text: str) -> str:
    r"""The text as Markdown shows it unchanged, in a paragraph, a list or a table.

    Example:
        >>> markdown("a|b <script>")
        'a\\|b &lt;script&gt;'
    """
    quoted = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", quoted)


def literal(text: str) -> str:
    r"""The string as a configuration may hold it; parsed, it is ``text`` again.

    Args:
        text: any string.

    Example:
        >>> literal("left kidney"), literal("$__import__('os')"), literal("scan#1")
        ('left kidney', '$"\\x24__import__(\'os\')"', "$'scan\\x231'")
    """
    if not any(sign in text for sign in "$@%#") and "::" not in text:
        return text
    quoted = ascii(text)
    for sign in _SIGNS:
        quoted = quoted.replace(sign, f"\\x{ord(sign):02x}")
    return f"${quoted}"


def is_literal(text: str) -> bool:
    """Whether an expression is nothing but a string's literal."""
    return _value(text) is not None


def plain(text: str) -> str:
    """What :func:`literal` was given, for those who read a configuration without evaluating it.

    Args:
        text: a string of a configuration; what is not a literal comes back as it is.

    Example:
        >>> plain(literal("50% dose @ 2 mm")), plain("$open('x')")
        ('50% dose @ 2 mm', "$open('x')")
    """
    value = _value(text)
    return text if value is None else value


def _value(text: str) -> str | None:
    if text[:2] not in ("$'", '$"'):
        return None
    try:
        value = ast.literal_eval(text[1:])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, str) else None


class _Listener(logging.Handler):
    """Python's warnings and loggers while somebody listens; what comes from other threads goes where it always went.

    Both are global, while one case is read, another computed and a third written at the same time. So each thread has
    its own list, and the first to listen sets up what the last takes down.
    """

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()
        self._guard, self._listening = threading.Lock(), 0
        self._filters: warnings.catch_warnings[None] | None = None
        self._show: Callable[..., Any] = warnings.showwarning
        self._aside: dict[str, list[logging.Handler]] = {}

    def __enter__(self) -> None:
        with self._guard:
            self._listening += 1
            if self._listening > 1:
                return
            self._filters = warnings.catch_warnings()
            self._filters.__enter__()
            # Otherwise Python shows each line's warning once, and only the first of many like cases would have it.
            warnings.simplefilter("always")
            # Whoever saved and restored the global function meanwhile may have left this one behind.
            if warnings.showwarning != self._warned:
                self._show, warnings.showwarning = warnings.showwarning, self._warned
            for name in _LOGGERS:
                logger = logging.getLogger(name)
                self._aside[name], logger.handlers = logger.handlers, [] if name else [self]

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._listening -= 1
            if self._listening or self._filters is None:
                return
            for name, handlers in self._aside.items():
                logging.getLogger(name).handlers = handlers
            self._filters.__exit__(None, None, None)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        if record.levelno < logging.WARNING or not self._take(record.getMessage()):
            aside: list[logging.Handler | None] = [*self._aside[""], *self._aside.get(record.name, ())]
            for handler in aside or [logging.lastResort]:
                if handler is not None and record.levelno >= handler.level:
                    handler.handle(record)

    def _warned(self, message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
        if issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            return  # for programmers, not about the case
        if not self._take(str(message)):
            self._show(message, category, *where, **further)

    def _take(self, message: str) -> bool:
        heard = getattr(self.thread, "heard", None)
        if heard is None:
            return False
        sentence = " ".join(message.split())
        if sentence not in heard and len(heard) < _MOST_HEARD:
            heard.append(sentence)
        return True


_LISTENER = _Listener()


@contextmanager
def listening(heard: list[str]) -> Iterator[None]:
    """Gather what libraries say in this thread, each message once: it belongs to the case, not onto the terminal.

    Example:
        >>> heard = []
        >>> with listening(heard):
        ...     warnings.warn("an odd header", stacklevel=1)
        >>> heard
        ['an odd header']
    """
    with _LISTENER:
        before = getattr(_LISTENER.thread, "heard", None)
        _LISTENER.thread.heard = heard
        try:
            yield
        finally:
            _LISTENER.thread.heard = before
