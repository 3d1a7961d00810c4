"""What a user is meant to read when a command ends early."""


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
    while error is not None:
        if isinstance(error, Interrupted):
            return error
        error = error.__cause__ or error.__context__
    return None
