"""Names of a package that are imported when they are first asked for.

Importing torch takes two seconds of processor time and MONAI five more. A list of weights, a phantom or a mistyped
option needs neither, so the packages on their way name what they offer and import none of it yet.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def imported_late(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562) that imports a name from its home.

    There is no ``__dir__`` beside it that lists the names: MONAI's configuration parser looks at every member of every
    module whose name holds "monai", and would import them all whenever a bundle is read.

    Args:
        package: its ``__name__``.
        homes: name -> module in the package that defines it.

    Example:
        >>> __getattr__ = imported_late("monai_transfer", {"UserError": "errors"})
        >>> __getattr__("UserError").__name__
        'UserError'
    """

    def fetch(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        # a plain attribute from now on: the package is not asked a second time
        setattr(sys.modules[package], name, found)
        return found

    return fetch
