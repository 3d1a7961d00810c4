"""Progress for programs: lines of JSON on standard error, in place of the bars that people get.

``--progress-lines`` may stand anywhere in a command. Each line is one object with ``progress`` (what is being done),
``done`` and ``total`` of its steps, and what else is known, such as ``name`` or ``loss``.
"""

import json
import os
import sys
import time

LINES = "MONAI_TRANSFER_PROGRESS_LINES"
"""Environment variable: set where progress is told in lines, by this process and those that it starts."""

_PAUSE = 0.5
"""Seconds between two lines of one kind of work: a training of thousands of steps fills no log."""

_last: dict[str, float] = {}


def want_lines() -> None:
    """Let this process, and those that it starts, tell of their progress in lines."""
    os.environ[LINES] = "1"


def tell_progress(what: str, done: int, total: int, **more: str | float) -> None:
    """Write a line, where lines are wanted and the last one of this work was a moment ago or the work is done.

    Args:
        what: the work.
        done: its steps that are done.
        total: all its steps.
        more: further facts; text is escaped as JSON escapes it.

    Example:
        >>> tell_progress("checking", 1, 2, name="a")  # nothing: nobody asked for lines
    """
    now = time.monotonic()
    if LINES not in os.environ or (done < total and now - _last.get(what, -_PAUSE) < _PAUSE):
        return
    _last[what] = now
    print(json.dumps({"progress": what, "done": done, "total": total, **more}), file=sys.stderr, flush=True)
