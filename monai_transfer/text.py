"""Text from data sets, bundles and file names on its way out.

A label, a case or a folder may be called anything: a spreadsheet's formula, a page's script, an escape sequence.
What leaves the package passes here, or through something that escapes by itself (JSON, the pages' templates), and is
shown as it is. What goes *in*, into a bundle's configuration, is made harmless where configurations are written.
"""

import re
from typing import Any

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
