"""What a configuration holds of a data set, and how its values are set."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from monai_transfer.datasets import CaseDataset
from monai_transfer.text import literal

_PRESETS = (
    "monai_transfer.transforms.preset",
    "monai_transfer.transforms.label_preset",
    "monai_transfer.pretraining.masked_preset",
)
"""What reads a training's files."""


def with_values(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with values set by id.

    Example:
        >>> with_values({"train": {"steps": [1, 2]}}, {"train#steps#0": 5, "seed": 3})
        {'train': {'steps': [5, 2]}, 'seed': 3}
    """
    changed = copy.deepcopy(dict(content))
    for name, value in changes.items():
        *parents, last = name.split("#")
        place: Any = changed
        for key in parents:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = value
    return changed


def folder_of(cases: CaseDataset) -> str:
    """Where a data set lies, for a configuration."""
    return literal(str(cases.root.resolve()))


def case_names(cases: CaseDataset) -> list[str]:
    """The names of the cases, for a configuration, which selects them as they are and not as patterns."""
    return [literal(name) for name in cases.names]


def read_by(content: Any, cases: CaseDataset) -> Any:
    """The same, its presets reading files as the cases ask for; only what differs from the default is written."""
    given = {name: value for name, value in asdict(cases.reading).items() if value}
    if not given:
        return content
    if isinstance(content, list):
        return [read_by(each, cases) for each in content]
    if not isinstance(content, dict):
        return content
    changed = {name: read_by(each, cases) for name, each in content.items()}
    return {**changed, "reading": given} if content.get("_target_") in _PRESETS else changed
