"""Some label maps of the source, as few as tell where organs lie and how people differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

_MOST = 24
"""Enough for an atlas or a deviation, and read within seconds."""


def some_label_maps(labelled: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """At most 24 label maps at even distances, ``(1, *spatial)`` each.

    Args:
        labelled: ``{"label": (1, *spatial)}``, read when they are asked for.
    """
    chosen = range(0, len(labelled), -(-len(labelled) // _MOST) or 1)
    return [convert_to_tensor(labelled[number][Keys.LABEL], track_meta=False) for number in chosen]
