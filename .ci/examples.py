"""Docstrings say ``Example:``, for most have one; the parser of the reference knows ``Examples:`` as code to set."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Give the section its other name before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with every object once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
