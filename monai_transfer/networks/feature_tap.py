"""Reading a network's features without wrapping it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from monai.networks.nets import BasicUNet, DenseNet, DynUNet, FlexibleUNet, ResNet, SegResNet, UNet
from torch import Tensor, nn

from monai_transfer.errors import UserError
from monai_transfer.networks.vgg_classifier import VGGClassifier

_UNET_LEVEL = re.compile(r"model(\.1\.submodule)*\.0")
_UNET_BOTTOM = re.compile(r"model(\.1\.submodule)+")


def _bare(network: nn.Module) -> nn.Module:
    inner = getattr(network, "module", None)
    return inner if isinstance(inner, nn.Module) else network


def feature_layers(network: nn.Module) -> tuple[str, ...]:
    """Module paths of the encoder's levels, from fine to coarse, for :func:`tap`.

    Known are MONAI's ``FlexibleUNet``, ``UNet``, ``BasicUNet``, ``DynUNet`` and ``SegResNet``, and of the networks that
    name a class ``ResNet``, ``DenseNet`` and ``VGGClassifier``.

    Raises:
        UserError: the network is none of these; its layers have to be named.
    """
    network = _bare(network)
    if isinstance(network, (FlexibleUNet, VGGClassifier)):
        return ("encoder",)
    if isinstance(network, ResNet):
        return ("layer1", "layer2", "layer3", "layer4")
    if isinstance(network, DenseNet):
        return tuple(f"features.{name}" for name, _ in network.features.named_children() if "denseblock" in name)
    if isinstance(network, UNet):
        names = [name for name, _ in network.named_modules()]
        bottom = max((name for name in names if _UNET_BOTTOM.fullmatch(name)), key=len)
        levels = [name for name in names if _UNET_LEVEL.fullmatch(name) and not name.startswith(bottom)]
        return (*levels, bottom)
    if isinstance(network, BasicUNet):
        return ("conv_0", "down_1", "down_2", "down_3", "down_4")
    if isinstance(network, DynUNet):
        return ("input_block", *(f"downsamples.{i}" for i in range(len(network.downsamples))), "bottleneck")
    if isinstance(network, SegResNet):
        return tuple(f"down_layers.{i}" for i in range(len(network.down_layers)))
    raise UserError(
        f"the encoder levels of a {type(network).__name__} are not known: name the layers to read features from, "
        "by their module paths"
    )


def decoder_layers(network: nn.Module) -> tuple[str, ...]:
    """Module paths of the decoder's levels, from coarse to fine, in a ``UNet`` beginning with the bottom.

    ``UNet``'s topmost up layer gives the logits and is not among them.

    Raises:
        UserError: the network is no ``UNet`` and no ``FlexibleUNet``.
    """
    network = _bare(network)
    if isinstance(network, FlexibleUNet):
        return tuple(f"decoder.blocks.{index}" for index in range(len(network.decoder.blocks)))
    if isinstance(network, UNet):
        *levels, bottom = feature_layers(network)
        ups = [f"{level.removesuffix('.0')}.2" for level in reversed(levels[1:])]
        return (bottom, *ups)
    raise UserError(f"the decoder levels of a {type(network).__name__} are not known: give a UNet or a FlexibleUNet")


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (list, tuple)):
        return [tensor for item in output for tensor in _tensors(item)]
    raise UserError(f"a layer that gives a {type(output).__name__} cannot be tapped: choose one that gives tensors")


@contextmanager
def tap(network: nn.Module, layers: str | Sequence[str]) -> Iterator[list[Tensor]]:
    """Collect the outputs of layers while the network runs; the network itself stays as it is.

    Every forward pass of ``network`` empties the list first, so it holds the features of the latest one::

        with tap(network, "encoder") as features:
            logits = network(image)

    Args:
        network: the network, bare or in a data-parallel wrapper.
        layers: module paths; a layer that gives a list adds all its tensors.

    Yields:
        The tapped tensors ``(batch, channels, *spatial)`` in the order in which the network made them.

    Raises:
        UserError: a path names no module, or a layer gives no tensors.
    """
    bare, features = _bare(network), list[Tensor]()

    def empty(*_: Any) -> None:
        features.clear()

    def collect(_module: nn.Module, _inputs: Any, output: Any) -> None:
        features.extend(_tensors(output))

    with ExitStack() as hooks:
        # emptied before the pass and not after, so that the caller can read them as long as it likes
        hooks.callback(bare.register_forward_pre_hook(empty).remove)
        for path in (layers,) if isinstance(layers, str) else layers:
            try:
                module = bare.get_submodule(path)
            except AttributeError:
                raise UserError(f"{type(bare).__name__} has no layer {path!r}: see its named_modules()") from None
            hooks.callback(module.register_forward_hook(collect).remove)
        yield features


def feature_channels(network: nn.Module, image: Tensor, layers: str | Sequence[str] | None = None) -> tuple[int, ...]:
    """Channels of each tapped feature tensor, found by running the network once in evaluation mode.

    Args:
        network: the network; its mode is restored.
        image: ``(batch, channels, *spatial)`` of a size that the network accepts.
        layers: module paths; by default :func:`feature_layers`.
    """
    # each module's own mode: a frozen layer may be in evaluation inside a training network
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), tap(network, feature_layers(network) if layers is None else layers) as features:
            network(image)
            return tuple(feature.shape[1] for feature in features)
    finally:
        for module, mode in modes.items():
            module.training = mode
