"""Two tasks on one network: a label for each voxel, and a class for the image."""

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from monai_transfer.errors import UserError


class TwoHeads(nn.Module):
    """A segmentation network and a network that names classes, which are one but for their last layers.

    The second one's U-Net has the outputs of the first, and behind them maps of the evidence for each class; what
    follows compares them at every place, pools them over the image, and weighs them. So a class that has a label is
    named as soon as the label is found, and one that has none is learnt by maps of its own.

    Both stay what they are: each runs, and is saved and loaded, without the other. Only while they are trained they
    answer together, in one tensor, so that whatever takes the logits of a network takes these.

    Args:
        segmentation: MONAI's ``UNet``.
        diagnosis: a ``Sequential`` of a ``UNet`` that is alike but has more outputs, and of the layers that pool them;
            the U-Net's layers are replaced by those of the first but for the last.

    Raises:
        UserError: the two are not alike.

    Example:
        >>> unets = [UNet(2, 1, outputs, channels=[4, 8], strides=[2], norm="INSTANCE") for outputs in (3, 5)]
        >>> head = nn.Sequential(unets[1], nn.LogSoftmax(1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(5, 2))
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
        # a method of this object and not a function: a copy of the object then fills its own second head
        self.diagnosis.register_state_dict_pre_hook(self._fill)  # type: ignore[no-untyped-call]
        self._fill()

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(batch, labels + classes, *spatial)``; those of a class are the same everywhere."""
        down, rest, labels = _layers(self.segmentation)
        features = rest(down(image))
        voxels = labels(features)
        evidence = _layers(self.diagnosis[0])[2](features)[:, voxels.shape[1] :]
        classes = self.diagnosis[1:](torch.cat([voxels, evidence], dim=1))
        places = classes[(..., *[None] * (voxels.ndim - 2))].expand(-1, -1, *voxels.shape[2:])
        return torch.cat([voxels, places], dim=1)

    @torch.no_grad()
    def _fill(self, *_: object) -> None:
        """Give the second U-Net the labels' outputs, which the first one learns, before it is saved."""
        labels, both = (dict(_layers(net)[2].named_parameters()) for net in (self.segmentation, self.diagnosis[0]))
        count = len(labels["conv.bias"])
        both["conv.weight"][:, :count] = labels["conv.weight"]  # of a transposed convolution: in, out, *size
        both["conv.bias"][:count] = labels["conv.bias"]


def _layers(network: nn.Module) -> nn.Sequential:
    """The first layer of a ``UNet`` on the way down, all that lies within, and its last one."""
    if not isinstance(network, UNet) or not isinstance(network.model, nn.Sequential):
        raise UserError(f"A {type(network).__name__} cannot share its layers with a second task: give a UNet.")
    return network.model
