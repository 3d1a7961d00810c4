"""Features that name a shape, whatever it is painted with."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from monai_transfer.adaptation import AdaptationMethod, Outputs
from monai_transfer.adaptation.method import Batch
from monai_transfer.losses import voxel_contrast
from monai_transfer.pretraining.loader import FIRST, SECOND, SHAPES


class ContrastiveAgreement(AdaptationMethod):
    """Features of a shape agree between its two appearances and differ from those of all other shapes.

    At each tapped level the features of the same sampled voxels of both appearances go through a small perceptron of
    the level's own, which is thrown away afterwards, and into :func:`~monai_transfer.losses.voxel_contrast`. After Dey
    et al., *Learning General-purpose Biomedical Volume Representations using Randomized Synthesis*, ICLR 2025.

    Args:
        channels: of each tapped tensor, in the order in which the network makes them.
        weight: of the mean over the levels.
        voxels: sampled from each volume.
        width: channels in which voxels are compared.
        temperature: of the loss.

    Example:
        >>> method = ContrastiveAgreement([4], voxels=8, width=4)
        >>> view = Outputs(torch.zeros(1, 2, 8, 8, 8), (torch.rand(1, 4, 4, 4, 4),))
        >>> shapes = torch.randint(3, (1, 1, 8, 8, 8))
        >>> batch = {"first": {"image": torch.zeros(1, 1, 8, 8, 8), "shapes": shapes}}
        >>> list(method.losses({"first": view, "second": view}, batch))
        ['contrast']
    """

    needs_features = True

    def __init__(
        self,
        channels: Sequence[int],
        weight: float = 1.0,
        *,
        voxels: int = 512,
        width: int = 64,
        temperature: float = 0.33,
    ) -> None:
        super().__init__(weight)
        self.voxels = voxels
        self.temperature = temperature
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(count, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)) for count in channels
        )

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """``contrast``, the mean over the levels."""
        shapes = batch[FIRST][SHAPES]
        size = shapes.shape[2:]
        total = torch.zeros((), device=shapes.device)
        for head, first, second in zip(self.heads, outputs[FIRST].features, outputs[SECOND].features, strict=True):
            # other voxels at each level: all levels together look at more of the volume
            where = _sample(shapes, self.voxels)
            labels = shapes.flatten(1).gather(1, where)
            picked = torch.cat([_pick(view, where, size) for view in (first, second)], dim=1)
            total = total + voxel_contrast(head(picked), torch.cat([labels, labels], dim=1), self.temperature)
        return {"contrast": self.scaled(total / len(self.heads))}


def _sample(shapes: Tensor, count: int) -> Tensor:
    """Flat positions ``(batch, count)``, small shapes more often than their share but less often than all alike."""
    flat = shapes.flatten(1)
    # a weighted draw from all voxels would cost more than the network; from so many it is nearly the same
    some = torch.randint(flat.shape[1], (flat.shape[0], 8 * count), device=flat.device)
    labels = flat.gather(1, some)
    share = torch.zeros(flat.shape[0], 256, device=flat.device).scatter_add_(1, labels, torch.ones_like(labels).float())
    weights = share.gather(1, labels).rsqrt()
    return some.gather(1, torch.multinomial(weights, count, replacement=True))


def _pick(features: Tensor, where: Tensor, size: Sequence[int]) -> Tensor:
    """Features ``(batch, voxels, channels)`` at flat positions of the volume, from a level that may be coarser."""
    coarse = features.shape[2:]
    x, y, z = where // (size[1] * size[2]), where // size[2] % size[1], where % size[2]
    at = [axis * few // many for axis, few, many in zip((x, y, z), coarse, size, strict=True)]
    flat = (at[0] * coarse[1] + at[1]) * coarse[2] + at[2]
    picked = features.flatten(2).gather(2, flat[:, None].expand(-1, features.shape[1], -1))
    return picked.transpose(1, 2)
