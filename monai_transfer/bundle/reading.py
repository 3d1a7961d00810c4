"""What inference needs to know of a MONAI bundle: its network, preprocessing, window, activation and label names."""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv
from monai.transforms import Compose
from torch import nn

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.facts import (
    DIAGNOSIS,
    OPTIONAL_CHANNELS,
    bundle_concerns,
    config_file,
    formats_of,
    in_one_sentence,
    label_names,
    parse_config,
    read_metadata,
    require_bundle,
    whole_number,
)
from monai_transfer.bundle.inference_settings import Decision, WindowSettings, read_decision, require_sane
from monai_transfer.bundle.trust import require_trust
from monai_transfer.errors import UserError
from monai_transfer.files import sha256
from monai_transfer.text import literal
from monai_transfer.weights.checkpoint import read_checkpoint


@dataclass(frozen=True)
class InferenceBundle:
    """A bundle, ready to segment.

    Attributes:
        root: its folder.
        network: with the trained weights, in evaluation mode.
        preprocessing: the bundle's own transforms; the first reads the file.
        recipe: the preprocessing as the configuration spells it, to tell whether two bundles share it.
        image_key: under which the preprocessing keeps the image.
        window: sliding-window settings.
        decision: how logits become labels.
        label_names: names of the output channels; 0 is the background where classes exclude each other.
        in_channels: image channels that the network expects, None when the metadata does not say.
        out_channels: output channels, None when the metadata does not say.
        checksum: SHA-256 over the configuration and the weights.
        channel_names: of the image.
        optional_channels: whether the network was trained to do without some of them.
    """

    root: Path
    network: nn.Module = field(repr=False)
    preprocessing: Compose = field(repr=False)
    recipe: str
    image_key: str
    window: WindowSettings
    decision: Decision
    label_names: Mapping[int, str]
    in_channels: int | None
    out_channels: int | None
    checksum: str
    channel_names: Mapping[int, str] = field(default_factory=dict)
    optional_channels: bool = False


def read_bundle(
    root: str | Path,
    *,
    device: torch.device | str = "cpu",
    weights: str | Path | None = None,
    diagnosis: bool = False,
    trust: bool = False,
) -> InferenceBundle:
    """Read a bundle folder and build what its inference consists of.

    Building runs the code that the configuration names. Of a bundle that was made elsewhere that is done only where it
    asks for nothing beyond :mod:`monai_transfer.bundle.allowed`, or with ``trust``.

    Args:
        root: the bundle's folder.
        device: handed to the configuration as its ``device``.
        weights: a checkpoint to use instead of ``models/model.pt``.
        diagnosis: read the second network, which names classes, of a bundle of two tasks.
        trust: let a foreign bundle run whatever code it names.

    Raises:
        UntrustedBundleError: the bundle is foreign and names code of its own.
        UserError: a file or a part of the configuration is missing or broken, or the weights do not fit.
    """
    root = require_bundle(root)
    config = (config_file(root, DIAGNOSIS) if diagnosis else None) or _inference_file(root)
    checkpoint = Path(weights) if weights else root / "models" / f"{DIAGNOSIS if diagnosis else 'model'}.pt"
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint} is missing; name the folder of a complete MONAI bundle with --bundle.")
    metadata = read_metadata(root)
    content = parse_config(config)
    require_trust(root, lambda: bundle_concerns(root, content), trust=trust)
    with in_one_sentence(config):
        parser = _parser(content, metadata, root, torch.device(device))
        network = _network(parser, config)
        load_weights(network, checkpoint)
        preprocessing = _chain(parser, "preprocessing", config)
        post = _chain(parser, "postprocessing", config) if "postprocessing" in parser.config else Compose([])
        window = WindowSettings.of(_content(parser, ("inferer",), config))
        require_sane(window, config)
        image_format, pred_format = formats_of(metadata)
        if diagnosis:  # the metadata tell of the first network
            names = content.get("class_names")
            names = names if isinstance(names, list) else []
            pred_format = {"channel_def": dict(enumerate(names)), "num_channels": len(names)}
        return InferenceBundle(
            root=root,
            network=network.eval(),
            preprocessing=preprocessing,
            recipe=_spelled_out(parser, "preprocessing"),
            image_key=str(preprocessing.flatten().transforms[0].keys[0]),
            window=window,
            decision=read_decision(post),
            label_names=label_names(pred_format.get("channel_def"), root),
            in_channels=whole_number(image_format.get("num_channels")),
            out_channels=whole_number(pred_format.get("num_channels")),
            checksum=checksum((config, checkpoint)),
            channel_names=label_names(image_format.get("channel_def"), root),
            optional_channels=metadata.get(OPTIONAL_CHANNELS) is True,
        )


def read_network(root: str | Path, *, trust: bool = False) -> nn.Module:
    """Build the network of a bundle with fresh weights.

    A definition without references is looked at alone: what the rest of the configuration asks for does not matter.

    Args:
        root: the bundle's folder.
        trust: let a foreign bundle run whatever code it names.

    Raises:
        UntrustedBundleError: the bundle is foreign and its network names code of its own.
        UserError: the folder is not a bundle, or defines no network.
    """
    root = require_bundle(root)
    config = config_file(root, "inference") or config_file(root, "train") or root / "configs" / "inference.json"
    content = parse_config(config)
    definition = content.get("network_def")
    if isinstance(definition, dict) and "@" not in json.dumps(definition) and "%" not in json.dumps(definition):
        content = {"network_def": definition}
    require_trust(root, lambda: tuple(concerns_of(content, config.stem)), trust=trust)
    with in_one_sentence(config):
        return _network(_parser(content, {}, root, torch.device("cpu")), config)


def load_weights(network: nn.Module, checkpoint: Path) -> None:
    """Load the weights of a file into a network.

    Raises:
        UserError: the file is not a checkpoint of plain tensors, does not fit the network, or holds NaN or infinity.
    """
    tensors = read_checkpoint(checkpoint).tensors
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{checkpoint} does not fit the bundle's network_def: {first}") from error
    # Looked for after loading: by then every tensor has a shape of the network, whatever the file claimed.
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{checkpoint} holds NaN or infinity, first in {name}: train the network again.")


def checksum(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of ``files``."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def _inference_file(root: Path) -> Path:
    return config_file(root, "inference") or root / "configs" / "inference.json"


def _parser(content: Mapping[str, Any], metadata: Mapping[str, Any], root: Path, device: torch.device) -> ConfigParser:
    """A parser of values that were looked at, never of a file that could have changed since."""
    parser = ConfigParser(config={})
    for name, value in content.items():
        merge_kv(parser, name, value)
    if "_meta_" in json.dumps(content, default=str):
        parser["_meta_"] = dict(metadata)
    parser["bundle_root"], parser["device"] = literal(str(root)), device
    if "imports" in parser.config:
        _content(parser, ("imports",), root)
    return parser


def _content(parser: ConfigParser, names: Sequence[str], config: Path) -> Any:
    name = next((n for n in names if n in parser.config), None)
    if name is None:
        raise UserError(f"{config} has no '{names[0]}'; inference needs it.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Current default value of argument.*")
        return parser.get_parsed_content(name)


def _network(parser: ConfigParser, config: Path) -> nn.Module:
    network = _content(parser, ("network_def", "network"), config)
    if not isinstance(network, nn.Module):
        raise UserError(f"{config} defines no network: its network_def must name one with _target_.")
    return network


def _chain(parser: ConfigParser, name: str, config: Path) -> Compose:
    chain = _content(parser, (name,), config)
    if not isinstance(chain, Compose) or (name == "preprocessing" and not chain.transforms):
        raise UserError(f"{config} has a '{name}' that is not a chain of transforms: write a Compose.")
    return chain


def _spelled_out(parser: ConfigParser, name: str) -> str:
    """A part of the configuration, with the parts that it refers to."""
    text = json.dumps(parser.config[name], sort_keys=True)
    references = sorted(set(re.findall(r"@([A-Za-z_]\w*)", text)) - {name, "device", "bundle_root"})
    return text + "".join(_spelled_out(parser, r) for r in references if r in parser.config)
