"""What a user is meant to read when a command ends early."""

from collections.abc import Iterator


class UserError(Exception):
    """Something that the user can mend.

    The message is one sentence: it names the file, the field or option, and the remedy. The command line prints
    it without a traceback and exits with status 2.
    """


class Interrupted(BaseException):
    """Ctrl-C, or a request to end (SIGTERM), that was answered in order.

    It is no ``Exception``, so that what catches faults of single cases lets it through, and no ``KeyboardInterrupt``,
    because the command line's framework ends on that one without printing the sentence.

    Args:
        message: one sentence: what is kept, and what to type next.
        signal: the number of the signal; the exit status is 128 more.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def interruption_behind(error: BaseException | None) -> Interrupted | None:
    """The interruption that an error was made of, if there is one.

    ``pydoc.locate``, by which MONAI imports what a configuration names, wraps whatever ends an import.
    """
    return next((stop for stop in behind(error) if isinstance(stop, Interrupted)), None)


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was made of, the newest first.

    Each comes once: one that is raised again while it is handled stands behind itself.

    Example:
        >>> first, second = KeyError("a"), ValueError("b")
        >>> first.__cause__, second.__cause__ = second, first
        >>> list(behind(first)) == [first, second]
        True
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
