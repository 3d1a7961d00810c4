"""What a case says about two tasks, in one tensor that travels as its label."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform
from monai.utils.enums import CommonKeys as Keys

NO_MAP = -1.0
"""The label of every voxel of a case without a label map."""


class JoinTargets(Transform):
    """Puts the class targets of a case behind its label map; see :class:`~monai_transfer.losses.TwoTaskLoss`.

    Args:
        key: of the targets ``(classes,)``, which is taken away.

    Example:
        >>> case = {"image": torch.zeros(1, 2, 2), "label": torch.ones(1, 2, 2), "target": [0.0, 1.0]}
        >>> JoinTargets()(case)["label"][:, 0, 0].tolist()
        [1.0, 0.0, 1.0]
    """

    def __init__(self, key: str = "target") -> None:
        self.key = key

    def __call__(self, case: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The case with a label ``(1 + classes, *spatial)``; an absent label map becomes :data:`NO_MAP`."""
        joined = dict(case)
        targets = torch.as_tensor(joined.pop(self.key), dtype=torch.float32)
        space = joined[Keys.IMAGE].shape[1:]
        label = torch.as_tensor(joined.get(Keys.LABEL, torch.full((1, *space), NO_MAP))).float()
        places = targets[(..., *[None] * len(space))].expand(-1, *space)
        joined[Keys.LABEL] = torch.cat([label, places])
        return joined
