"""Where a network looked: Grad-CAM, Grad-CAM++ and occlusion by MONAI, on the grid of the input.

Selvaraju et al., "Grad-CAM", ICCV 2017; Chattopadhay et al., "Grad-CAM++", WACV 2018; Zeiler and Fergus, "Visualizing
and understanding convolutional networks", ECCV 2014.
"""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, Invertd
from monai.visualize import GradCAM, GradCAMpp, OcclusionSensitivity
from torch import Tensor, nn
from torch.nn import functional

from monai_transfer.bundle.reading import Decision
from monai_transfer.inference.pipeline import class_masks
from monai_transfer.networks import feature_layers, tap

Method = Literal["gradcam", "gradcam++", "occlusion"]

CELLS = 12
"""A layer is looked at where its map has this many cells along the longest axis: those of the last layers of a ResNet
have two to seven, each as large as an organ."""

_GREATEST = (nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)

_MASK_SHARE = 8
"""An occluding box has this part of the image's length, and moves by half of its own."""


def saliency(
    network: nn.Module,
    image: Tensor,
    class_index: int,
    *,
    method: Method = "gradcam",
    decision: Decision = Decision(),  # noqa: B008 (frozen)
) -> Tensor:
    """How much each place speaks for a class, 0 to 1.

    Args:
        network: gives logits ``(1, classes)``, or ``(1, classes, *spatial)`` whose sum over the places where the class
            is drawn is then explained.
        image: ``(C, *spatial)``, preprocessed.
        class_index: the output that is explained.
        method: ``gradcam``, ``gradcam++`` or ``occlusion``.
        decision: where logits of places draw a class.

    Returns:
        ``(*spatial)``; all 0 where nothing speaks for the class.

    Example:
        >>> from monai.networks.nets import ResNet
        >>> network = ResNet("basic", [1, 1, 1, 1], [4, 4, 8, 8], spatial_dims=2, n_input_channels=1, num_classes=2)
        >>> saliency(network.eval(), torch.rand(1, 48, 48), 1).shape
        torch.Size([48, 48])
    """
    batch = torch.as_tensor(image)[None].detach()
    # a copy: MONAI's hooks stay on the layers that they are hung on, and its wrapper changes the mode of the network
    network = _with_shares(copy.deepcopy(network))
    explained = _Presence(network, decision).eval()
    if method == "occlusion":
        found = _occlusion(explained, batch, class_index)
    else:
        layer = "network." + explaining_layer(network, batch)
        maker = {"gradcam": GradCAM, "gradcam++": GradCAMpp}[method]
        # MONAI's own normalisation turns the map around: there the most important place gets 0
        cam = maker(nn_module=explained, target_layers=layer, postprocessing=_as_it_is)
        with torch.enable_grad():
            found = cam(x=batch, class_idx=class_index)[0, 0].detach()
    positive = found.clamp_min(0)
    return positive / positive.max().clamp_min(1e-12)


@torch.no_grad()
def drawn_masks(
    network: nn.Module,
    working: Tensor,
    *,
    window: Sequence[int],
    decision: Decision = Decision(),  # noqa: B008 (frozen)
) -> Tensor:
    """Where a network draws each class, ``(classes, *spatial)`` boolean.

    Args:
        network: gives logits ``(1, classes, *spatial)``.
        working: ``(C, *spatial)``, preprocessed.
        window: what the network takes at once; -1 for a whole axis.
        decision: how logits become labels.
    """
    image = torch.as_tensor(working)
    size = _window_size(window, image.shape[1:])
    logits = sliding_window_inference(image[None], size, 1, network, padding_mode="replicate")
    return class_masks(logits, decision)[0]


def label_saliency(
    network: nn.Module,
    working: Tensor,
    masks: Tensor,
    label: int,
    *,
    window: Sequence[int],
    method: Method = "gradcam",
    decision: Decision = Decision(),  # noqa: B008 (frozen)
) -> Tensor | None:
    """How much each place speaks for a label of a segmentation, within the window around it.

    Args:
        network: gives logits ``(1, classes, *spatial)``.
        working: ``(C, *spatial)``, preprocessed.
        masks: its :func:`drawn_masks`, which serve all labels.
        label: number of the output.
        window: what the network takes at once; -1 for a whole axis.
        method: ``gradcam``, ``gradcam++`` or ``occlusion``.
        decision: how logits become labels.

    Returns:
        ``(*spatial)`` from 0 to 1, 0 outside of the window; None where the network finds no voxel of the label.
    """
    places = masks[label].nonzero()
    if not len(places):
        return None
    image, space = torch.as_tensor(working), working.shape[1:]
    size = _window_size(window, space)
    middle = places.float().mean(0).round().int().tolist()
    corners = [max(0, min(m - s // 2, n - s)) for m, s, n in zip(middle, size, space, strict=True)]
    box = tuple(slice(corner, corner + s) for corner, s in zip(corners, size, strict=True))
    part = image[(slice(None), *box)]
    # an image that is smaller than the window is seen as inference sees it, with its borders repeated
    short = [s - n for s, n in zip(size, part.shape[1:], strict=True)]
    padding = [number for s in reversed(short) for number in (0, s)]
    seen = functional.pad(part[None], padding, mode="replicate")[0]
    heat = torch.zeros(space, device=image.device)
    inner = tuple(slice(0, n) for n in part.shape[1:])
    heat[box] = saliency(network, seen, label, method=method, decision=decision)[inner]
    return heat


def explaining_layer(network: nn.Module, batch: Tensor) -> str:
    """The deepest level of the encoder whose map still has :data:`CELLS` cells along an axis, else the finest.

    Of a network that pools the shares of labels it is these.
    """
    shares = next((name for name, part in network.named_children() if isinstance(part, _Exp)), None)
    if shares is not None:
        return shares
    layers = [layer for layer in feature_layers(network) if layer != "encoder"]
    if not layers:  # VGG's features come as a list of its own
        layers = [f"encoder.{stage[-1]}" for stage in network.encoder.stages()]  # type: ignore[union-attr, operator]
    sizes = []
    with torch.no_grad(), tap(network, layers) as features:
        network(batch)
        sizes = [max(feature.shape[2:]) for feature in features]
    fine = [layer for layer, size in zip(layers, sizes, strict=True) if size >= CELLS]
    return fine[-1] if fine else layers[0]


def to_native(heat: Tensor, working: MetaTensor, transforms: Compose, *, key: str) -> Tensor:
    """A map of the working grid on the grid of the file, ``(*native shape)``.

    Args:
        heat: ``(*spatial)`` of the working grid.
        working: the preprocessed image with the trace that leads back.
        transforms: the bundle's preprocessing.
        key: its key for the image.
    """
    undo = Invertd("pred", transform=transforms, orig_keys=key, nearest_interp=False)
    restored: Tensor = undo({"pred": MetaTensor(heat[None].cpu()), key: working})["pred"]
    return torch.as_tensor(restored)[0].clamp(0, 1)


class _Presence(nn.Module):
    """A network whose answer about a class is one number, also where it answers for every place."""

    def __init__(self, network: nn.Module, decision: Decision) -> None:
        super().__init__()
        self.network = network
        self.decision = decision

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(batch, classes)``: of a map the sum over the places where the class is drawn."""
        logits: Tensor = self.network(image)
        return logits if logits.ndim == 2 else (logits * class_masks(logits, self.decision)).flatten(2).sum(2)


class _Exp(nn.Module):
    def forward(self, logarithms: Tensor) -> Tensor:
        return logarithms.exp()


class _Log(nn.Module):
    def forward(self, shares: Tensor) -> Tensor:
        return shares.clamp_min(1e-30).log()  # the smallest are zeros in float32


def _with_shares(network: nn.Module) -> nn.Module:
    """The same function with a layer that Grad-CAM can weigh, where a network pools logarithms of shares.

    Grad-CAM takes a feature to be 0 where there is nothing. A share is, its logarithm is 0 where the label is certain:
    so the logarithms are turned into shares and back, before the greatest of each label is taken. A label then speaks
    for a class by its weight in the last layer, where it is, and in proportion to the place where it is surest.
    """
    if not isinstance(network, nn.Sequential):
        return network
    layers = list(network)
    pools = [number for number, layer in enumerate(layers) if isinstance(layer, _GREATEST)]
    if not pools or not any(isinstance(layer, nn.LogSoftmax) for layer in layers[: pools[0]]):
        return network
    return nn.Sequential(*layers[: pools[0]], _Exp(), _Log(), *layers[pools[0] :])


def _window_size(window: Sequence[int], space: Sequence[int]) -> list[int]:
    """Voxels of a window whose -1 are whole axes."""
    return [wanted if wanted > 0 else have for wanted, have in zip(window, space, strict=True)]


def _occlusion(network: nn.Module, batch: Tensor, class_index: int) -> Tensor:
    """The loss of the class's logit when a place is covered."""
    mask = [max(2, length // _MASK_SHARE) for length in batch.shape[2:]]
    cover = OcclusionSensitivity(
        nn_module=network, mask_size=mask, overlap=0.5, n_batch=8, mode="mean_img", activate=False, verbose=False
    )
    with torch.no_grad():
        covered, _ = cover(batch)
        whole = network(batch)[0, class_index]
    loss: Tensor = whole - covered[0, class_index]
    return loss


def _as_it_is(heat: Tensor) -> Tensor:
    return heat
