"""From the values of a label map to the numbers of a network's outputs."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_transfer.errors import UserError


class LabelClassesd(MapTransform):
    """Gives each voxel of a label map the number of its class.

    Label maps may be stored as almost whole numbers and with gaps between their values: 17 and 2035 are classes 1 and 2
    of a network with three outputs.

    Args:
        keys: label maps ``(1, ...)``.
        values: the value of each class, background first; ``None`` where the values are the numbers.

    Raises:
        UserError: a label map holds a value that is none of them.

    Example:
        >>> label = torch.tensor([[0.0, 17.0, 2035.0]])
        >>> LabelClassesd("label", [0, 17, 2035])({"label": label})["label"]
        tensor([[0., 1., 2.]])
    """

    def __init__(self, keys: KeysCollection, values: Sequence[int] | None = None) -> None:
        super().__init__(keys)
        self.values = None if values is None else torch.tensor(sorted(values), dtype=torch.float64)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label maps."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            label = changed[key].round()
            if self.values is not None:
                wide = torch.as_tensor(label, dtype=torch.float64).contiguous()
                classes = torch.searchsorted(self.values, wide).clamp(max=len(self.values) - 1)
                if not torch.equal(self.values[classes], wide):
                    odd = float(wide[self.values[classes] != wide][0])
                    raise UserError(
                        f"A label map holds the value {odd:g}, which no class has: run monai-transfer check."
                    )
                label = torch.zeros_like(label) + classes  # a MetaTensor keeps its affine
            changed[key] = label
        return changed
