"""Every public class and every loss shows how it is used, and every example in the package runs as printed."""

import doctest
import importlib
import inspect
import pkgutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

import monai_transfer

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(monai_transfer.__path__, "monai_transfer.")
    if not module.name.endswith("__main__") and ".bundles" not in module.name
)
ROOMS = sorted(module.name for module in pkgutil.iter_modules(monai_transfer.__path__) if module.ispkg)


def _to_be_shown(room: str) -> list[Any]:
    """The classes that a room exports, and its functions too where they are losses."""
    module = importlib.import_module(f"monai_transfer.{room}")
    exported = [getattr(module, name) for name in getattr(module, "__all__", ())]
    return [each for each in exported if inspect.isclass(each) or (room == "losses" and inspect.isfunction(each))]


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_exported_has_an_example(room: str) -> None:
    silent = [each.__name__ for each in _to_be_shown(room) if ">>>" not in (inspect.getdoc(each) or "")]
    assert not silent, f"no example in the docstring of {silent}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what an example leaves behind
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
