"""Networks as a bundle's configuration defines them: those that ``--network`` names, in words, and building one.

A network of this package that layers of PyTorch and MONAI make up is spelled out in ``inference.json``, for MONAI
alone to build; everything else speaks of it by its one name. It is put into words where a bundle is written, and
recognised where a configuration is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.facts import config_file, in_one_sentence, parse_config, require_bundle
from monai_transfer.bundle.trust import parser_of, require_trust
from monai_transfer.errors import UserError

if TYPE_CHECKING:
    from torch.nn import Module

LIGHT = {"unet": "INSTANCE", "unet_bn": "BATCH"}
"""Name of a light network -> its normalisation."""

STEMMED, MIND, WITH_STRUCTURE = "unet_stems", "unet_mind", "unet_with_structure"
"""The light network with a stem for each channel; on structure in place of intensity; on both."""

LIGHT_VARIANTS = {STEMMED: "StemmedUNet", MIND: "MINDUNet", WITH_STRUCTURE: "StructureUNet"}
"""Name of a variant of the light network -> its class in this package."""

LIGHT_UNETS = (*LIGHT, *LIGHT_VARIANTS)
"""All that are built alike."""

LIGHT_RESNETS = {f"resnet{depth}_light": depth for depth in (10, 18)}
"""Name of a U-Net around a light network that names classes -> the depth of that ResNet."""

MESHNETS = {f"meshnet{channels}": channels for channels in (21, 30)}
"""Name of a MeshNet -> its channels, of brainchop's files."""

ALL_CONV = "all_conv_unet"
"""The light U-Net of OBELISK's files."""

_KINDS = {**{kind: name for name, kind in LIGHT_VARIANTS.items()}, "AllConvUNet": ALL_CONV}
"""Class of this package -> the one name that stands for it."""

_STRUCTURE_UNET = f"monai_transfer.networks.{LIGHT_VARIANTS[WITH_STRUCTURE]}"

_IN_WORDS = (
    "$torch.nn.Sequential(torch.nn.modules.container.OrderedDict("
    "structure=monai.networks.layers.SkipConnection(torch.nn.Sequential(*@structure)), model=@unet.model))"
)
"""A ``_target_`` takes no arguments without names; of the names here MONAI knows all before it imports any."""

NETWORKS = {
    **{name: f"a light U-Net (MONAI UNet, {norm.lower()} norm)" for name, norm in LIGHT.items()},
    STEMMED: "the light U-Net with a stem for each of several channels (mid fusion)",
    MIND: "the light U-Net on MIND descriptors: structure in place of intensity",
    WITH_STRUCTURE: "the light U-Net on its images and their structure, whatever its contrast",
    **{
        name: f"a light U-Net around a ResNet-{depth} of a quarter of the width (FlexibleUNet, batch norm)"
        for name, depth in LIGHT_RESNETS.items()
    },
    **{f"resnet{depth}": f"FlexibleUNet with a ResNet-{depth} encoder" for depth in (10, 18, 34, 50, 101)},
    **{f"vgg{depth}": f"FlexibleUNet with a VGG-{depth} encoder" for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": f"FlexibleUNet with a VGG-{depth} encoder and batch norm" for depth in (11, 13, 16, 19)},
    **{f"densenet{depth}": f"FlexibleUNet with a DenseNet-{depth} encoder" for depth in (121, 169)},
    **{name: f"MeshNet with {channels} channels (3D, no down-sampling)" for name, channels in MESHNETS.items()},
    ALL_CONV: "a U-Net of 880,000 values (3D, batch norm)",
}
"""Name of ``--network`` -> what it is."""


def network_definition(
    name: str, *, classes: int, channels: int = 1, spatial_dims: int = 3, dropout: float = 0.0
) -> dict[str, Any]:
    """``network_def`` for a bundle.

    Args:
        name: one of :data:`NETWORKS`.
        classes: output channels, with the background.
        channels: input channels.
        spatial_dims: 2 or 3.
        dropout: share of decoder features dropped in training.

    Raises:
        UserError: when there is no network of that name.
    """
    if name in LIGHT_UNETS:
        return {
            "_target_": f"monai_transfer.networks.{LIGHT_VARIANTS[name]}" if name in LIGHT_VARIANTS else "UNet",
            "spatial_dims": spatial_dims,
            "in_channels": channels,
            "out_channels": classes,
            "channels": [32, 64, 128, 256, 256],
            "strides": [2, 2, 2, 2],
            "num_res_units": 0,
            "norm": LIGHT.get(name, "INSTANCE"),
            "dropout": dropout,
        }
    require_network(name)
    shared = {"in_channels": channels, "out_channels": classes, "dropout": dropout}
    if name in LIGHT_RESNETS:
        target = "monai_transfer.networks.LightResNetUNet"
        return {"_target_": target, "spatial_dims": spatial_dims, "backbone": name, **shared}
    if name in MESHNETS:
        target = "monai_transfer.networks.MeshNet"
        return {"_target_": target, "spatial_dims": spatial_dims, "channels": MESHNETS[name], **shared}
    if name == ALL_CONV:
        return {"_target_": "monai_transfer.networks.AllConvUNet", **shared}
    return {
        # MONAI's own class, but by a way on which the encoders that MONAI lacks become known to it
        "_target_": "FlexibleUNet" if name.startswith("resnet") else "monai_transfer.networks.FlexibleUNet",
        "in_channels": channels,
        "out_channels": classes,
        "backbone": name,
        "pretrained": False,
        "decoder_channels": [128, 64, 32, 24, 16],
        "spatial_dims": spatial_dims,
        "dropout": dropout,
    }


def require_network(name: str) -> None:
    """See that ``--network`` names a network.

    Raises:
        UserError: it does not.
    """
    if name not in NETWORKS:
        raise UserError(f"--network {name} is not known: choose one of {', '.join(NETWORKS)}.")


def network_name(definition: Mapping[str, Any]) -> str | None:
    """The name by which ``--network`` would ask for a ``network_def``; ``None`` where no name would."""
    kind = str(definition.get("_target_", "")).rpartition(".")[2]
    if kind in _KINDS:
        return _KINDS[kind]
    if kind == "MeshNet":
        return known_network(f"meshnet{definition.get('channels')}")
    if kind == "UNet":
        return next((name for name, norm in LIGHT.items() if norm == definition.get("norm")), "unet")
    if kind == "LightResNetUNet":  # the shallowest by default
        return known_network(definition.get("backbone", next(iter(LIGHT_RESNETS))))
    return known_network(str(definition.get("backbone", "")))


def known_network(name: str) -> str | None:
    """The name, if it is one of :data:`NETWORKS`."""
    return name if name in NETWORKS else None


def read_network(root: str | Path, *, trust: bool = False) -> "Module":
    """Build the network of a bundle with fresh weights.

    A definition without references is looked at alone: what the rest of the configuration asks for does not matter.

    Args:
        root: the bundle's folder.
        trust: let a foreign bundle run whatever code it names.

    Raises:
        UntrustedBundleError: the bundle is foreign and its network names code of its own.
        UserError: the folder is not a bundle, or defines no network.
    """
    from monai_transfer.bundle.reading import network_in  # here: MONAI takes seconds, a name does not

    root = require_bundle(root)
    config = config_file(root, "inference") or config_file(root, "train") or root / "configs" / "inference.json"
    content = parse_config(config)
    definition = content.get("network_def")
    if isinstance(definition, dict) and "@" not in json.dumps(definition) and "%" not in json.dumps(definition):
        content = {"network_def": definition}
    require_trust(root, lambda: tuple(concerns_of(content, config.stem)), trust=trust)
    with in_one_sentence(config):
        return network_in(parser_of(content, {}, root), config, root / "models" / "model.pt")


def spelled_out(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose network MONAI builds without this package; any other is as it was.

    Example:
        >>> definition = {"_target_": "monai_transfer.networks.StructureUNet", "spatial_dims": 3, "in_channels": 1}
        >>> content = {"amp": False, "network_def": {**definition, "out_channels": 2}}
        >>> inference = spelled_out(content)
        >>> list(inference), inference["unet"]["in_channels"]
        (['amp', 'structure', 'unet', 'network_def'], 7)
        >>> recognised(inference) == content
        True
    """
    definition = content.get("network_def")
    if not isinstance(definition, Mapping) or definition.get("_target_") != _STRUCTURE_UNET:
        return dict(content)
    dims, channels = definition.get("spatial_dims"), definition.get("in_channels")
    if dims not in (2, 3) or not isinstance(channels, int):  # a reference, which MONAI would resolve
        return dict(content)
    layers = _structure_layers(dims, channels)
    inputs = layers[0]["in_channels"] + layers[0]["out_channels"]
    changed: dict[str, Any] = {}
    for name, value in content.items():
        if name == "network_def":
            changed["structure"] = layers
            changed["unet"] = {**definition, "_target_": "UNet", "in_channels": inputs}
            value = _IN_WORDS
        changed[name] = value
    return changed


def recognised(content: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that :func:`spelled_out` gave, as it was before; any other, and one that was edited, as it is."""
    unet = content.get("unet")
    if content.get("network_def") != _IN_WORDS or not isinstance(unet, Mapping):
        return dict(content)
    dims, inputs = unet.get("spatial_dims"), unet.get("in_channels")
    if not (isinstance(dims, int) and isinstance(inputs, int)):
        return dict(content)
    definition = {**unet, "_target_": _STRUCTURE_UNET, "in_channels": inputs // (1 + 2 * dims)}
    kept = {name: value for name, value in content.items() if name not in ("structure", "unet")}
    brief = {name: definition if name == "network_def" else value for name, value in kept.items()}
    return brief if spelled_out(brief) == content else dict(content)


def _structure_layers(spatial_dims: int, channels: int) -> list[dict[str, Any]]:
    """The layers of a ``StructureUNet``'s structure, whose kernels the checkpoint brings."""
    convolution, further = f"torch.nn.Conv{spatial_dims}d", 2 * spatial_dims * channels
    kernels = {"_target_": convolution, "kernel_size": 3, "padding": 1, "bias": False, "out_channels": further}
    with_itself = {"_target_": "monai.networks.layers.SkipConnection", "submodule": {"_target_": "torch.nn.Identity"}}
    relative = (
        f"$torch.nn.Sequential({convolution}({further}, 1, 1, bias=False), "
        "torch.nn.LocalResponseNorm(1, alpha=1.25, beta=1.0, k=1.25e-07))"
    )
    return [
        {**kernels, "in_channels": channels, "groups": channels, "padding_mode": "replicate"},
        {**with_itself, "mode": "mul"},
        {**kernels, "in_channels": further, "groups": further},
        {**with_itself, "submodule": relative, "mode": "mul"},
        {"_target_": "torch.nn.Tanh"},
        {**with_itself, "mode": "add"},
    ]
