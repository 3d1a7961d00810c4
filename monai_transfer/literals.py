"""Strings of somebody else, written so that MONAI's configuration parser reads them as what they are: strings.

In a configuration ``$`` at the start makes code of a string, ``@`` a reference and ``%`` the content of a file, and
``#`` becomes ``::`` wherever it stands. The name of a label, a case or a folder may hold any of them. A string that
does is written as a Python literal, the one kind of expression that computes nothing, with each such sign spelled as
an escape; all others stay as they are, so that configurations stay readable.
"""

import ast

_SIGNS = "$@%#:"
"""What the parser gives a meaning to; a lone colon has none, but two of them are a ``#``."""


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
        text: a string of a configuration; what is no literal comes back as it is.

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
