"""How large the classes of a target's volume may be, by the label maps of the source."""

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_transfer.adaptation.label_atlas import LabelAtlas
from monai_transfer.transforms.class_sizes import size_bounds


class ExpectedSizes:
    """Bounds of the classes' sizes, usually 0.625 and 2.5 times the median (:func:`size_bounds`).

    A class without a place of its own, a lesion, varies in size as well, and may be of any that the source has. One
    that goes on beyond the border of its map, an aorta, is longer where more is seen, and shorter where less is.

    Args:
        atlas: of the source's labels.
        labels: from which it was made, ``(1, *spatial)`` each.

    Example:
        >>> label = torch.zeros(1, 12, 12, dtype=torch.long)
        >>> label[0, 4:8, 4:8], label[0, :, 10] = 1, 2
        >>> sizes = ExpectedSizes(LabelAtlas([label] * 3, classes=3), [label] * 3)
        >>> sizes.bounds((12, 12))[:, 1:].tolist(), sizes.bounds((24, 12))[:, 2].tolist()
        ([[10.0, 7.5], [40.0, 30.0]], [7.5, 60.0])
    """

    def __init__(self, atlas: LabelAtlas, labels: Sequence[Tensor]) -> None:
        classes = 1 + len(atlas.usual)
        counts = torch.stack([torch.bincount(label.flatten().long(), minlength=classes) for label in labels]).float()
        varied = counts.masked_fill((counts == 0) | torch.cat([torch.ones(1).bool(), atlas.placed]), torch.nan)
        self._usual = size_bounds(torch.cat([torch.zeros(1), atlas.usual]), varied)
        self._lengths = torch.tensor([label.shape[1:] for label in labels]).float().median(0).values
        self._open = atlas.reach.isfinite().any(2)

    def bounds(self, shape: Sequence[int]) -> Tensor:
        """Least and greatest number of voxels of each class in a volume of this shape, ``(2, classes)``."""
        longer = torch.where(self._open, torch.tensor(shape) / self._lengths, 1.0).prod(1)
        factors = torch.stack([longer.clamp(max=1), longer.clamp(min=1)])
        return self._usual * torch.cat([torch.ones(2, 1), factors], 1)
