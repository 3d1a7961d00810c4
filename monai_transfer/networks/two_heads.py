"""Two tasks on one network: a label for each voxel, and a class for the image."""

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.errors import UserError


class TwoHeads(nn.Module):
    """A segmentation network and a network that names classes, which are one but for their last layers.

    Both stay what they are: each runs, and is saved and loaded, without the other. Only while they are trained they
    answer together, in one tensor, so that whatever takes the logits of a network takes these.

    Args:
        segmentation: MONAI's ``UNet``.
        diagnosis: a ``Sequential`` of a ``UNet`` that is alike but for its number of outputs, whose map of evidence the
            further layers pool; its layers are replaced by those of the first but for the last.

    Raises:
        UserError: the two are not alike.

    Example:
        >>> unets = [UNet(2, 1, outputs, channels=[4, 8], strides=[2], norm="INSTANCE") for outputs in (3, 2)]
        >>> head = nn.Sequential(unets[1], nn.AdaptiveMaxPool2d(1), nn.Flatten())
        >>> TwoHeads(unets[0], head)(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 5, 16, 16])
    """

    def __init__(self, segmentation: UNet, diagnosis: nn.Sequential) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.diagnosis = diagnosis
        ours, theirs = _layers(segmentation), _layers(diagnosis[0])
        for number in (0, 1):
            shapes = [[tuple(tensor.shape) for tensor in part[number].state_dict().values()] for part in (ours, theirs)]
            if shapes[0] != shapes[1]:
                raise UserError("The networks of the two tasks differ before their last layer: build both from one.")
            theirs[number] = ours[number]

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(batch, labels + classes, *spatial)``; those of a class are the same everywhere."""
        down, rest, labels = _layers(self.segmentation)
        features = rest(down(image))
        voxels = labels(features)
        classes = self.diagnosis[1:](_layers(self.diagnosis[0])[2](features))
        places = classes[(..., *[None] * (voxels.ndim - 2))].expand(-1, -1, *voxels.shape[2:])
        return torch.cat([voxels, places], dim=1)


def _layers(network: nn.Module) -> nn.Sequential:
    """The first layer of a ``UNet`` on the way down, all that lies within, and its last one."""
    if not isinstance(network, UNet) or not isinstance(network.model, nn.Sequential):
        raise UserError(f"A {type(network).__name__} cannot share its layers with a second task: give a UNet.")
    return network.model
