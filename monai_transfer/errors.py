"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something that the user can mend.

    The message is one sentence: it names the file, the field or option, and the remedy. The command line prints
    it without a traceback and exits with status 2.
    """
