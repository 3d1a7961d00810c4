"""Two tasks on one encoder: a label for each voxel, and a class for the image."""

import torch
from monai.networks.layers import SkipConnection
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.errors import UserError


class TwoHeads(nn.Module):
    """A segmentation network and a network that names classes, whose encoders are one.

    Both stay what they are: each runs, and is saved and loaded, without the other. Only while they are trained they
    answer together, in one tensor, so that whatever takes the logits of a network takes these.

    Args:
        segmentation: MONAI's ``UNet``.
        diagnosis: a ``Sequential`` that begins with as many layers as the ``UNet`` has levels, of the same shapes; they
            are replaced by those of the ``UNet``.

    Raises:
        UserError: the encoders differ.

    Example:
        >>> from monai.networks.blocks import Convolution
        >>> unet = UNet(2, 1, 3, channels=[4, 8], strides=[2], norm="INSTANCE")
        >>> levels = [Convolution(2, 1, 4, strides=2), Convolution(2, 4, 8)]
        >>> head = nn.Sequential(*levels, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        >>> TwoHeads(unet, head)(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 5, 16, 16])
    """

    def __init__(self, segmentation: UNet, diagnosis: nn.Sequential) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.diagnosis = diagnosis
        for number, level in enumerate(encoder_of(segmentation)):
            shapes = [
                [tuple(tensor.shape) for tensor in part.state_dict().values()] for part in (level, diagnosis[number])
            ]
            if shapes[0] != shapes[1]:
                raise UserError(f"The two networks differ at level {number} of their encoders: build both from one.")
            diagnosis[number] = level

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(batch, labels + classes, *spatial)``; those of a class are the same everywhere."""
        labels = self.segmentation(image)
        classes = self.diagnosis(image)
        places = classes[(..., *[None] * (labels.ndim - 2))].expand(-1, -1, *labels.shape[2:])
        return torch.cat([labels, places], dim=1)


def encoder_of(network: UNet) -> list[nn.Module]:
    """The levels of a ``UNet`` on the way down, the bottom last."""
    levels, inner = [], network.model
    while isinstance(inner, nn.Sequential) and len(inner) == 3 and isinstance(inner[1], SkipConnection):
        levels.append(inner[0])
        inner = inner[1].submodule
    return [*levels, inner]
