"""Text from data sets, bundles and file names, made harmless for whoever reads it next.

A label, a case or a folder may be called anything: a spreadsheet's formula, a page's script, an escape sequence, an
expression. What leaves the package passes here, or through something that escapes by itself (JSON, the pages'
templates), and is shown as it is.

So does what goes into a bundle's configuration, where ``$`` at the start makes code of a string, ``@`` a reference and
``%`` the content of a file, and ``#`` becomes ``::`` wherever it stands. A string that holds any of them is written as
a Python literal, the one kind of expression that computes nothing, with each such sign spelled as an escape; all others
stay as they are, so that configurations stay readable.
"""

import ast
import re
from typing import Any

_SIGNS = "$@%#:"
"""What the parser gives a meaning to; a lone colon has none, but two of them are a ``#``."""

_UNSEEN = "?"
# what a spreadsheet takes for the beginning of a formula, in ordinary and in full width
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
# what Markdown, or HTML inside of it, gives a meaning; underscores inside words have none and are common in names
_MARKDOWN = re.compile(r"([\\`*\[\]{}#|~$!])")


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
