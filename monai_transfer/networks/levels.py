"""Which tensor of a network belongs to which level: stem, level1 … levelN, decoder, head."""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

from monai.networks.nets import DenseNet, DynUNet, FlexibleUNet, ResNet, SegResNet, SwinUNETR, UNet
from monai.networks.nets.efficientnet import EfficientNetEncoder
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.networks.all_conv_unet import AllConvUNet
from monai_transfer.networks.meshnet import MeshNet
from monai_transfer.networks.vgg_classifier import VGGClassifier

DECODER, HEAD, WHOLE = "decoder", "head", "network"


def bare(network: nn.Module) -> nn.Module:
    """Return the network inside a (distributed) data-parallel wrapper, or the network itself."""
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module: nn.Module = network.module
        return module
    return network


def distinct_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state of ``network`` by name, a tensor that is registered under several names only once."""
    seen: set[int] = set()
    state = {}
    for name, tensor in bare(network).state_dict(keep_vars=True).items():
        # a tensor that two names share counts once, or the shares of a load report would be wrong
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def network_levels(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Sort the tensors of ``network`` into levels, from its input to its output.

    ``FlexibleUNet``, ``AllConvUNet`` and MONAI's ``UNet``, ``DynUNet``, ``SegResNet`` and ``SwinUNETR`` have ``stem``,
    ``level1`` … ``levelN``, ``decoder`` and ``head``; ``UNet``'s topmost up layer is its head. ``ResNet``, ``DenseNet``
    and ``VGGClassifier``, which name a class, and ``MeshNet`` have all of these but the decoder. Any other network is
    one level, ``network``.

    Returns:
        Names as in ``state_dict`` (parameters and buffers) for each level that holds any.
    """
    network = bare(network)
    level_of = _rule(network)
    levels: dict[str, list[str]] = {}
    for name in distinct_state(network):
        levels.setdefault(level_of(name), []).append(name)
    return {level: tuple(levels[level]) for level in sorted(levels, key=_depth)}


def encoder_levels(network: nn.Module) -> tuple[str, ...]:
    """Return the levels of ``network`` that pretrained weights are meant for: all but ``decoder`` and ``head``."""
    return tuple(level for level in network_levels(network) if level not in (DECODER, HEAD))


def names_of(network: nn.Module, levels: Iterable[str]) -> set[str]:
    """Return the tensor names of the given ``levels``; ``encoder`` stands for all levels of the encoder.

    Raises:
        UserError: a level is not one of the network's.
    """
    known = network_levels(network)
    wanted: set[str] = set()
    for level in levels:
        if level == "encoder":
            wanted.update(encoder_levels(network))
        elif level in known:
            wanted.add(level)
        else:
            raise UserError(f"{type(bare(network)).__name__} has no level {level!r}: use encoder, {', '.join(known)}.")
    return {name for level in wanted for name in known[level]}


def _depth(level: str) -> int:
    # beyond any level that a network has, so that the sort puts them last
    last = {DECODER: 1000, HEAD: 1001}
    return last.get(level, int(level.removeprefix("level")) if level.startswith("level") else 0)


def _rule(network: nn.Module) -> Callable[[str], str]:
    if isinstance(network, FlexibleUNet):
        return _staged(network.encoder)
    if isinstance(network, UNet):
        return _unet
    if isinstance(network, VGGClassifier):
        return _staged(network.encoder)
    patterns = next((rules for kind, rules in _PATTERNS.items() if isinstance(network, kind)), None)
    if patterns is None:
        return lambda name: WHOLE
    deepest = _deepest(network)

    def level_of(name: str) -> str:
        for pattern, level in patterns:
            if match := re.match(pattern, name):
                return level(match, deepest) if callable(level) else level
        return DECODER

    return level_of


def _deepest(network: nn.Module) -> int:
    if isinstance(network, MeshNet):
        return len(network.model) // 2  # a layer is a convolution and its activation; the head is the last
    return len(network.downsamples) + 1 if isinstance(network, DynUNet) else 0


def _layer(match: re.Match[str], deepest: int) -> str:
    number = int(match.group(1)) // 2
    return HEAD if number == deepest else f"level{number}" if number else "stem"


def _numbered(offset: int) -> Callable[[re.Match[str], int], str]:
    def level(match: re.Match[str], deepest: int) -> str:
        number = int(match.group(1)) + offset
        return f"level{number}" if number else "stem"

    return level


_Rules = list[tuple[str, str | Callable[[re.Match[str], int], str]]]
_PATTERNS: dict[type[nn.Module], _Rules] = {
    DynUNet: [
        (r"input_block\.", "stem"),
        (r"downsamples\.(\d+)\.", _numbered(1)),
        (r"bottleneck\.", lambda match, deepest: f"level{deepest}"),
        (r"output_block\.", HEAD),
    ],
    SegResNet: [(r"convInit\.", "stem"), (r"down_layers\.(\d+)\.", _numbered(1)), (r"conv_final\.", HEAD)],
    SwinUNETR: [
        (r"swinViT\.patch_embed\.", "stem"),
        (r"swinViT\.layers(\d+)c?\.", _numbered(0)),
        (r"swinViT\.", "stem"),
        (r"out\.", HEAD),
    ],
    ResNet: [(r"(conv1|bn1)\.", "stem"), (r"layer(\d)\.", _numbered(0)), (r"fc\.", HEAD)],
    DenseNet: [
        (r"features\.(conv0|norm0)\.", "stem"),
        (r"features\.(?:denseblock|transition)(\d)\.", _numbered(0)),
        (r"features\.norm5\.", "level4"),
        (r"class_layers\.", HEAD),
    ],
    MeshNet: [(r"model\.(\d+)\.", _layer)],
    AllConvUNet: [
        (r"(?:conv|batch)([0-5])\1?\.", _numbered(0)),
        # the layer before the head is as wide as there are classes
        (r"(?:conv|batch)77?U\.", HEAD),
    ],
}


def _staged(encoder: nn.Module) -> Callable[[str], str]:
    """Level of a tensor of a network that is an ``encoder`` of stages, a head, and perhaps a decoder."""
    stages = _encoder_stages(encoder)

    def level_of(name: str) -> str:
        if name.startswith(("segmentation_head.", "head.")):
            return HEAD
        if not name.startswith("encoder."):
            return DECODER
        inner = name.removeprefix("encoder.")
        for index, prefixes in enumerate(stages):
            if any(inner.startswith(f"{prefix}.") for prefix in prefixes):
                return f"level{index}" if index else "stem"
        return f"level{len(stages) - 1}"

    return level_of


def _encoder_stages(encoder: nn.Module) -> list[list[str]]:
    """Return the layer names of the stem and each level of an encoder of ``FlexibleUNet``."""
    stages = getattr(encoder, "stages", None)
    if callable(stages):
        named: list[list[str]] = stages()
        return named
    if isinstance(encoder, EfficientNetEncoder):
        ends = [int(end) for end in encoder.extract_stacks]
        blocks = [f"_blocks.{index}" for index in range(len(encoder._blocks))]
        levels = [blocks[start:end] for start, end in pairwise([0, *ends])]
        return [["_conv_stem", "_bn0", *levels[0]], *levels[1:]]
    return [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]


def _unet(name: str) -> str:
    """Level of a tensor of MONAI's ``UNet``, whose layers are nested as ``model.1.submodule.1.submodule.…``."""
    inner = re.sub(r"^model\.", "", name)
    depth = 0
    while inner.startswith("1.submodule."):
        inner, depth = inner.removeprefix("1.submodule."), depth + 1
    if inner.startswith("2."):
        return DECODER if depth else HEAD
    return f"level{depth}" if depth else "stem"
