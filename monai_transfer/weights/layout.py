"""Recognise what a weights file holds from the names and shapes of its tensors."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

_RESNETS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (1, 1, 1, 1)): 10,
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
    (True, (3, 24, 36, 3)): 200,
}
_LIGHT = 16
"""Features of the first convolution of the light ResNets; published ones have 64."""
_VGGS = {8: 11, 10: 13, 13: 16, 16: 19}
_DENSENETS: dict[tuple[int, ...], int] = {
    (6, 12, 24, 16): 121,
    (6, 12, 32, 32): 169,
    (6, 12, 48, 32): 201,
    (6, 12, 36, 24): 161,
}


@dataclass(frozen=True)
class Layout:
    """What a set of tensors looks like.

    Attributes:
        kind: family: ``resnet``, ``vgg``, ``densenet``, ``flexible_unet``, ``nnunet``, …, or ``unknown``.
        backbone: name of the backbone in ``FLEXUNET_BACKBONE``, ``""`` where there is none.
        description: words for a message: ``a MedicalNet ResNet-18 (3D, 1 input channel)``.

    Example:
        >>> from monai.networks.nets import resnet18
        >>> recognise(resnet18(spatial_dims=3, n_input_channels=1).state_dict()).description
        'a ResNet-18 (3D, 1 input channel)'
    """

    kind: str
    backbone: str
    description: str


def canonical(name: str) -> str:
    """Return the one spelling of a tensor name that several publishers spell differently.

    Torchvision's older DenseNet files write ``denselayer1.norm.1``, MONAI ``denselayer1.layers.norm1``; the two
    self-supervised Swin files write ``mlp.fc1`` and ``layers1.0.0.blocks``; compiled networks add ``_orig_mod``.
    """
    name = name.replace("_orig_mod.", "")
    name = re.sub(r"(denselayer\d+)\.(?:layers\.)?(norm|conv)\.?([12])\.", r"\1.\2\3.", name)
    name = re.sub(r"\bmlp\.fc([12])\.", r"mlp.linear\1.", name)
    return re.sub(r"\b(layers[1-4])\.0\.0\.(blocks|downsample)\.", r"\1.0.\2.", name)


def recognise(tensors: Mapping[str, Tensor]) -> Layout:
    """Say what network a file's tensors come from."""
    shapes = {canonical(name): tuple(tensor.shape) for name, tensor in tensors.items()}
    for recogniser in _RECOGNISERS:
        if layout := recogniser(shapes):
            return layout
    shown = ", ".join(list(tensors)[:3])
    return Layout("unknown", "", f"no layout that is known here ({len(tensors)} tensors: {shown}, …)")


_Shapes = Mapping[str, tuple[int, ...]]


def _ending(shapes: _Shapes, ending: str) -> tuple[int, ...] | None:
    return next((shape for name, shape in shapes.items() if f".{name}".endswith(f".{ending}")), None)


def _counts(names: Iterable[str], pattern: str) -> tuple[int, ...]:
    """Blocks per stage: ``pattern`` has two groups, stage and block."""
    found: dict[int, int] = {}
    for name in names:
        if match := re.search(pattern, name):
            stage, block = int(match.group(1)), int(match.group(2))
            found[stage] = max(found.get(stage, 0), block)
    return tuple(found[stage] for stage in sorted(found))


def _grid(shape: tuple[int, ...]) -> str:
    return f"{len(shape) - 2}D, {shape[1]} input channel{'s' if shape[1] > 1 else ''}"


def _resnet(shapes: _Shapes) -> Layout | None:
    stem = _ending(shapes, "conv1.weight")
    if (
        stem is None
        or _ending(shapes, "layer1.0.conv1.weight") is None
        or _ending(shapes, "layer1.0.conv2.weight") is None
    ):
        return None
    stem = next((shape for name, shape in shapes.items() if re.search(r"(^|\.)(?<!\d\.)conv1\.weight$", name)), stem)
    blocks = tuple(count + 1 for count in _counts(shapes, r"layer(\d)\.(\d+)\.conv1\.weight$"))
    depth = _RESNETS.get((_ending(shapes, "layer1.0.conv3.weight") is not None, blocks))
    name = f"ResNet-{depth}" if depth else f"ResNet with {blocks} blocks"
    owner = "a"
    if len(stem) == 5 and stem[1] == 1 and all(key.startswith("module.") for key in shapes):
        owner = "a MedicalNet"
    elif (
        len(stem) == 4
        and stem[1] == 3
        and _ending(shapes, "fc.weight") == (1000, 2048 if depth and depth > 34 else 512)
    ):
        owner = "a torchvision ImageNet"
    if depth and stem[0] == _LIGHT:
        return Layout("resnet", f"resnet{depth}_light", f"a light {name} ({_grid(stem)})")
    return Layout("resnet", f"resnet{depth}" if depth else "", f"{owner} {name} ({_grid(stem)})")


def _vgg(shapes: _Shapes) -> Layout | None:
    layers = {
        int(match.group(1)): shape
        for name, shape in shapes.items()
        if (match := re.search(r"(?:^|\.)features\.(\d+)\.weight$", name))
    }
    kernels = {index: shape for index, shape in layers.items() if len(shape) in (4, 5)}
    if 0 not in kernels or kernels[0][0] != 64 or len(kernels) not in _VGGS:
        return None
    normalised = 1 in layers
    depth = _VGGS[len(kernels)]
    owner = "a torchvision ImageNet" if _ending(shapes, "classifier.0.weight") == (4096, 25088) else "a"
    name = f"VGG-{depth}" + ("-BN" if normalised else "")
    return Layout("vgg", f"vgg{depth}" + ("_bn" if normalised else ""), f"{owner} {name} ({_grid(kernels[0])})")


def _densenet(shapes: _Shapes) -> Layout | None:
    blocks = _counts(shapes, r"denseblock(\d)\.denselayer(\d+)\.")
    stem = _ending(shapes, "features.conv0.weight")
    if not blocks or stem is None:
        return None
    depth = _DENSENETS.get(blocks)
    owner = "a torchvision ImageNet" if _ending(shapes, "classifier.weight") and stem[1] == 3 else "a"
    name = f"DenseNet-{depth}" if depth else f"DenseNet with {blocks} layers"
    return Layout("densenet", f"densenet{depth}" if depth else "", f"{owner} {name} ({_grid(stem)})")


def _flexible_unet(shapes: _Shapes) -> Layout | None:
    head = _ending(shapes, "segmentation_head.0.weight")
    if head is None:
        return None
    encoder = {name: shape for name, shape in shapes.items() if "encoder." in name}
    inner = next((layout for kind in (_vgg, _densenet, _resnet) if (layout := kind(encoder))), None)
    if inner is None:
        efficient = any("_blocks." in name for name in encoder)
        inner = Layout("", "", "an EfficientNet encoder" if efficient else "an unknown encoder")
    inside = inner.description.removeprefix("a ")
    words = f"a MONAI FlexibleUNet with {inside}, {head[0]} classes"
    return Layout("flexible_unet", inner.backbone, words)


def _marked(kind: str, description: str, *marks: str) -> Callable[[_Shapes], Layout | None]:
    patterns = [re.compile(rf"(^|\.){mark}") for mark in marks]

    def recogniser(shapes: _Shapes) -> Layout | None:
        if all(any(pattern.search(name) for name in shapes) for pattern in patterns):
            return Layout(kind, "", description)
        return None

    return recogniser


def _meshnet(shapes: _Shapes) -> Layout | None:
    """A chain of convolutions of one width whose odd places, the activations, hold nothing."""
    found = {
        int(match.group(1)): shape
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"(?:.*\.)?model\.(\d*[02468])\.weight", name))
    }
    kernels = [found[place] for place in sorted(found)]
    if len(kernels) < 3 or len(kernels) * 2 != len(shapes) or set(kernels[-1][2:]) != {1}:
        return None
    width = kernels[0][0]
    if any(shape[:2] != (width, width) for shape in kernels[1:-1]) or kernels[-1][1] != width:
        return None
    words = f"a MeshNet with {width} channels ({_grid(kernels[0])}, {kernels[-1][0]} classes)"
    return Layout("meshnet", f"meshnet{width}" if len(kernels) == 10 else "", words)


def _all_conv_unet(shapes: _Shapes) -> Layout | None:
    stem, head = _ending(shapes, "conv0.weight"), _ending(shapes, "conv77U.weight")
    if stem is None or head is None or _ending(shapes, "conv6dU.weight") is None:
        return None
    return Layout(
        "all_conv_unet", "all_conv_unet", f"OBELISK's all-convolutional U-Net ({_grid(stem)}, {head[0]} classes)"
    )


def _structure_unet(shapes: _Shapes) -> Layout | None:
    kernels, stem = _ending(shapes, "structure.submodule.0.weight"), _ending(shapes, "model.0.conv.weight")
    if kernels is None or stem is None or stem[1] <= kernels[0]:
        return None
    grid = _grid((stem[0], stem[1] - kernels[0], *stem[2:]))
    return Layout("structure_unet", "unet_with_structure", f"a U-Net of images and their structure ({grid})")


_RECOGNISERS: tuple[Callable[[_Shapes], Layout | None], ...] = (
    _flexible_unet,
    _marked("swin_unetr", "a MONAI SwinUNETR", r"swinViT\.patch_embed\.", r"decoder1\."),
    _marked("swin_ssl", "a self-supervised Swin encoder", r"patch_embed\.proj\.weight$", r"layers1\.0\.blocks\."),
    _marked("nnunet", "an nnU-Net (version 2, plain encoder)", r"encoder\.stages\.0\.0\.convs\."),
    _marked("nnunet_residual", "an nnU-Net (version 2, residual encoder)", r"encoder\.stages\.0\.blocks\."),
    _marked("nnunet_v1", "an nnU-Net (version 1)", r"conv_blocks_context\.0\."),
    _marked("dynunet", "a MONAI DynUNet", r"input_block\.", r"upsamples\.0\."),
    _structure_unet,
    _marked("unet", "a MONAI UNet", r"model\.0\.", r"submodule\.0\."),
    _marked("segresnet", "a MONAI SegResNet", r"convInit\.", r"down_layers\."),
    _marked("basic_unet", "a MONAI BasicUNet", r"conv_0\.conv_0\.", r"upcat_1\."),
    _marked("unetr", "a MONAI UNETR or ViT", r"patch_embedding\.", r"blocks\.0\.attn\."),
    _marked("inception", "a torchvision Inception-v3, which no FlexibleUNet backbone equals", r"Mixed_5b\."),
    _marked("obelisk", "an OBELISK-Net of sampled offsets, as no network here", r"offset1$", r"(LIN|linear)1"),
    _all_conv_unet,
    _meshnet,
    _vgg,
    _densenet,
    _resnet,
)
