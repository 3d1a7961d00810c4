"""Two tasks on one network: a label for each voxel, and a class for the image."""

from typing import NamedTuple

import torch
from monai.networks.nets import FlexibleUNet, UNet
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from monai_transfer.errors import UserError


class TwoHeads(nn.Module):
    """A segmentation network and a network that names classes, which are one but for their last layers.

    The second one's U-Net has the outputs of the first, and behind them maps of the evidence for each class; what
    follows compares them at every place, pools them over the image, and weighs them. So a class that has a label is
    named as soon as the label is found, and one that has none is learnt by maps of its own.

    Both stay what they are: each runs, and is saved and loaded, without the other. Only while they are trained they
    answer together, in one tensor, so that whatever takes the logits of a network takes these.

    Args:
        segmentation: MONAI's ``UNet`` or ``FlexibleUNet``.
        diagnosis: a ``Sequential`` of a network that is alike but has more outputs, and of the layers that pool them;
            its layers are replaced by those of the first but for the last.

    Raises:
        UserError: the two are not alike.

    Example:
        >>> unets = [UNet(2, 1, outputs, channels=[4, 8], strides=[2], norm="INSTANCE") for outputs in (3, 5)]
        >>> head = nn.Sequential(unets[1], nn.LogSoftmax(1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(5, 2))
        >>> TwoHeads(unets[0], head)(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 5, 16, 16])
    """

    def __init__(self, segmentation: UNet | FlexibleUNet, diagnosis: nn.Sequential) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.diagnosis = diagnosis
        ours, theirs = _parts(segmentation), _parts(diagnosis[0])
        for name in ours.shared:
            shapes = [
                [tuple(tensor.shape) for tensor in getattr(part.owner, name, nn.Module()).state_dict().values()]
                for part in (ours, theirs)
            ]
            if shapes[0] != shapes[1]:
                raise UserError("The networks of the two tasks differ before their last layer: build both from one.")
            setattr(theirs.owner, name, getattr(ours.owner, name))
        # a method of this object and not a function: a copy of the object then fills its own second head
        self.diagnosis.register_state_dict_pre_hook(self._fill)  # type: ignore[no-untyped-call]
        self._fill()

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(batch, labels + classes, *spatial)``; those of a class are the same everywhere."""
        features = _features(self.segmentation, image)
        voxels = _parts(self.segmentation).last(features)
        evidence = _parts(self.diagnosis[0]).last(features)[:, voxels.shape[1] :]
        classes = self.diagnosis[1:](torch.cat([voxels, evidence], dim=1))
        places = classes[(..., *[None] * (voxels.ndim - 2))].expand(-1, -1, *voxels.shape[2:])
        return torch.cat([voxels, places], dim=1)

    @torch.no_grad()
    def _fill(self, *_: object) -> None:
        """Give the second U-Net the labels' outputs, which the first one learns, before it is saved."""
        labels, both = (_convolution(_parts(network).last) for network in (self.segmentation, self.diagnosis[0]))
        # of a transposed convolution the weights are (in, out, *size), of any other (out, in, *size)
        outputs, count = int(labels.transposed), labels.out_channels
        both.weight.narrow(outputs, 0, count).copy_(labels.weight)
        if labels.bias is not None and both.bias is not None:
            both.bias[:count] = labels.bias


class _Parts(NamedTuple):
    """Where the layers of a U-Net are: on the way down, all that lies within or above, and the last one."""

    owner: nn.Module
    shared: tuple[str, str]
    last: nn.Module


def _parts(network: nn.Module) -> _Parts:
    if isinstance(network, FlexibleUNet):
        return _Parts(network, ("encoder", "decoder"), network.segmentation_head)
    if isinstance(network, UNet) and isinstance(network.model, nn.Sequential):
        return _Parts(network.model, ("0", "1"), network.model[2])
    raise UserError(f"A {type(network).__name__} cannot share its layers with a second task: give a U-Net.")


def _features(network: nn.Module, image: Tensor) -> Tensor:
    """What the last layer sees."""
    owner, shared, _ = _parts(network)
    down, rest = (getattr(owner, name) for name in shared)
    features: Tensor = (
        rest(down(image), network.skip_connect) if isinstance(network, FlexibleUNet) else rest(down(image))
    )
    return features


def _convolution(layer: nn.Module) -> _ConvNd:
    return next(part for part in layer.modules() if isinstance(part, _ConvNd))
