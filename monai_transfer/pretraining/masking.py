"""Volumes with hidden blocks, and the loss of a network that is to say what they hold.

A network that fills in what it cannot see has learnt how the anatomy around it goes on. Several modalities learn in one
network, as in Zhang et al., *MAPSeg*, CVPR 2024; He et al., *Masked Autoencoders Are Scalable Vision Learners*, CVPR
2022.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose, MapTransform, RandomizableTransform
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_transfer.transforms.presets import WEAK, Modality, preset
from monai_transfer.volumes.volume import Reading

HIDDEN_SHARE = 0.6
"""Of the blocks. Neighbouring voxels say so much of each other that little is learnt where less is hidden."""

BLOCK = 8
"""Voxels along each axis of a block: larger than what smoothing could fill, smaller than an organ."""


class HiddenBlocksd(RandomizableTransform, MapTransform):
    """Hides blocks of an image and keeps, as its label, what it was and where something is hidden.

    Exactly the same share of blocks is hidden each time. Hidden voxels get the mean of the visible ones of
    their channel.

    Args:
        plain: key of the image as it is to be restored; that under ``image`` may have been augmented.
        share: of the blocks that are hidden.
        block: voxels along each axis of a block.

    Example:
        >>> hide = HiddenBlocksd("image", share=0.5, block=4)
        >>> _ = hide.set_random_state(seed=0)
        >>> case = hide({"image": torch.rand(1, 8, 8, 8)})
        >>> case["label"].shape, float(case["label"][1].mean())
        (torch.Size([2, 8, 8, 8]), 0.5)
    """

    def __init__(self, plain: str = WEAK, *, share: float = HIDDEN_SHARE, block: int = BLOCK) -> None:
        MapTransform.__init__(self, Keys.IMAGE)
        RandomizableTransform.__init__(self, prob=1.0)
        self.plain = plain
        self.share = share
        self.block = block

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Hide blocks of ``image`` (C, *spatial); ``label`` becomes (C + 1, *spatial)."""
        case = dict(data)
        image, plain = case[Keys.IMAGE], case.pop(self.plain, case[Keys.IMAGE])
        hidden = self._blocks(image.shape[1:]).to(image.device)
        visible = (image * ~hidden).flatten(1).sum(dim=1) / (~hidden).sum().clamp(min=1)
        case[Keys.LABEL] = torch.cat([plain, hidden[None].to(plain.dtype)])
        case[Keys.IMAGE] = torch.where(hidden, visible.reshape(-1, *[1] * hidden.ndim).to(image.dtype), image)
        return case

    def _blocks(self, size: Sequence[int]) -> Tensor:
        counts = [-(-length // self.block) for length in size]
        total = torch.Size(counts).numel()
        chosen = torch.zeros(total, dtype=torch.bool)
        chosen[torch.from_numpy(self.R.permutation(total)[: round(self.share * total)])] = True
        blocks = chosen.reshape(counts)
        for axis, length in enumerate(size):
            blocks = blocks.repeat_interleave(self.block, dim=axis).narrow(axis, 0, length)
        return blocks


class HiddenReconstructionLoss(nn.Module):
    r"""Mean absolute error of the hidden voxels, :math:`\sum_v m_v |\hat x_v - x_v| / \sum_v m_v`.

    Example:
        >>> label = torch.tensor([[[2.0, 5.0]], [[1.0, 0.0]]]).movedim(0, 1)  # what it was, and what is hidden
        >>> HiddenReconstructionLoss()(torch.zeros(1, 1, 2), label).item()
        2.0
    """

    def forward(self, prediction: Tensor, label: Tensor) -> Tensor:
        """Loss of a prediction (batch, C, *spatial) for a label (batch, C + 1, *spatial).

        The last channel of the label is 1 where something is hidden.
        """
        plain, hidden = label[:, :-1], label[:, -1:]
        error = (prediction - plain).abs() * hidden
        return error.sum() / (hidden.sum() * plain.shape[1]).clamp(min=1)


def masked_preset(
    modality: Modality,
    *,
    spacing: Sequence[float],
    roi_size: Sequence[int],
    window: Sequence[float] = (-160.0, 240.0),
    share: float = HIDDEN_SHARE,
    block: int = BLOCK,
    device: torch.device | str = "cpu",
    reading: Reading | Mapping[str, bool] = Reading(),  # noqa: B008 (frozen)
) -> Compose:
    """From an unlabelled file to a crop with hidden blocks.

    One flat list of transforms: a data set that caches looks for the first random one in it.

    Args:
        modality: ``"ct"`` or ``"mr"``, see :func:`~monai_transfer.transforms.preset`.
        spacing: working grid in mm.
        roi_size: size of the crop in voxels.
        window: HU that become -1 and 1; CT only.
        share: of the blocks that are hidden.
        block: voxels along each axis of a block.
        device: where crops are deformed and hidden.
        reading: how strictly files are read.
    """
    steps = preset(
        modality,
        "train",
        spacing=spacing,
        roi_size=roi_size,
        window=window,
        labelled=False,
        device=device,
        reading=reading,
    ).transforms
    return Compose([*steps, HiddenBlocksd(share=share, block=block)])
