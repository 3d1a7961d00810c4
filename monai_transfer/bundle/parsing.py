"""Reads a configuration file of a bundle as plain values: nothing in it is evaluated, imported or opened."""

import json
from pathlib import Path
from typing import Any

import yaml

from monai_transfer.errors import UserError
from monai_transfer.files import without_doubles

MOST_BYTES = 16 * 2**20
"""Configurations have kilobytes; a list of thousands of case names still has less than this."""

MOST_VALUES = 500_000
"""Aliases let a YAML file of a hundred bytes stand for billions of values: so many are looked at, and no more."""

DEEPEST = 100
"""MONAI's parser calls itself once per level; configurations have about ten."""


def config_file(root: Path, name: str) -> Path | None:
    """The file of a configuration, JSON before YAML, as MONAI writes them; None where there is none."""
    found = (root / "configs" / f"{name}{suffix}" for suffix in (".json", ".yaml", ".yml"))
    return next((path for path in found if path.exists()), None)


def parse_config(path: Path) -> dict[str, Any]:
    """Return the content of a JSON or YAML file.

    Raises:
        UserError: the file is absent, too large or too deep, is neither JSON nor YAML, says something twice, or does
            not hold an object.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "inference.json"
        ...     _ = path.write_text('{"network_def": {"_target_": "UNet"}}')
        ...     print(parse_config(path))
        {'network_def': {'_target_': 'UNet'}}
    """
    if not path.is_file():
        raise UserError(f"{path} is missing or no regular file: give the folder of a complete MONAI bundle.")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES >> 20} MB, too many for a configuration: make it anew.")
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text, object_pairs_hook=without_doubles) if kind == "JSON" else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): see to its permissions.") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be a configuration: make the bundle anew.") from error
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not valid {kind} ({reason}): mend it or make the bundle anew.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold an object of names and values, not {type(content).__name__}: mend it.")
    _require_bounded(content, path)
    return content


def _require_bounded(content: dict[str, Any], path: Path) -> None:
    waiting: list[tuple[Any, int]] = [(content, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST:
            raise UserError(f"{path} is nested too deeply to be a configuration: make the bundle anew.")
        if seen > MOST_VALUES:
            raise UserError(f"{path} stands for more than {MOST_VALUES} values: make the bundle anew.")
        if isinstance(value, dict):
            odd = next((name for name in value if not isinstance(name, str)), None)
            if odd is not None:
                raise UserError(f"{path} uses {odd!r} as a name: write names as texts in quotes.")
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
