"""What inference needs to know of a MONAI bundle: its network, preprocessing, window, activation and label names."""

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, MapLabelValued, SaveImaged, Transform
from torch import nn

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.facts import (
    bundle_concerns,
    formats_of,
    label_names,
    read_metadata,
    require_bundle,
    whole_number,
)
from monai_transfer.bundle.parsing import config_file, parse_config
from monai_transfer.bundle.trust import require_trust
from monai_transfer.bundle.window import WindowSettings
from monai_transfer.errors import UserError
from monai_transfer.files import sha256
from monai_transfer.literals import literal
from monai_transfer.weights.checkpoint import read_checkpoint

LARGEST_WINDOW = 512**3
"""Voxels of a window: a float32 image of it has 0.5 GB, and the feature maps of a network tens of times that."""


@dataclass(frozen=True)
class Decision:
    """How logits become labels.

    Attributes:
        activation: ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        threshold: a class is present where its probability reaches this; None takes the largest class.
        nearest: restore by nearest neighbour (MONAI's ``nearest_interp=True``) instead of linearly.
        after: the bundle's own transforms of the finished label map, such as ``FillHolesd``.
        label_values: the value of each class in label maps; None where it is the class's number.
    """

    activation: str = "softmax"
    threshold: float | None = None
    nearest: bool = False
    after: tuple[Transform, ...] = ()
    label_values: tuple[int, ...] | None = None


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


def read_bundle(
    root: str | Path,
    *,
    device: torch.device | str = "cpu",
    weights: str | Path | None = None,
    trust: bool = False,
) -> InferenceBundle:
    """Read a bundle folder and build what its inference consists of.

    Building runs the code that the configuration names. Of a bundle that was made elsewhere that is done only where it
    asks for nothing beyond :mod:`monai_transfer.bundle.allowed`, or with ``trust``.

    Args:
        root: the bundle's folder.
        device: handed to the configuration as its ``device``.
        weights: a checkpoint to use instead of ``models/model.pt``.
        trust: let a foreign bundle run whatever code it names.

    Raises:
        UntrustedBundleError: the bundle is foreign and names code of its own.
        UserError: a file or a part of the configuration is missing or broken, or the weights do not fit.
    """
    root = require_bundle(root)
    config = _inference_file(root)
    checkpoint = Path(weights) if weights else root / "models" / "model.pt"
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint} is missing; name the folder of a complete MONAI bundle with --bundle.")
    metadata = read_metadata(root)
    content = parse_config(config)
    require_trust(root, bundle_concerns(root, content), trust=trust)
    with in_one_sentence(config):
        parser = _parser(content, metadata, root, torch.device(device))
        network = _network(parser, config)
        load_weights(network, checkpoint)
        preprocessing = _chain(parser, "preprocessing", config)
        post = _chain(parser, "postprocessing", config) if "postprocessing" in parser.config else Compose([])
        window = WindowSettings.of(_content(parser, ("inferer",), config))
        _require_sane(window, config)
        image_format, pred_format = formats_of(metadata)
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
        )


def read_network(root: str | Path, *, trust: bool = False) -> nn.Module:
    """Build the network of a bundle with fresh weights.

    A definition without references is looked at alone: what the rest of the configuration asks for does not matter.

    Args:
        root: the bundle's folder.
        trust: let a foreign bundle run whatever code it names.

    Raises:
        UntrustedBundleError: the bundle is foreign and its network names code of its own.
        UserError: the folder is no bundle, or defines no network.
    """
    root = require_bundle(root)
    config = config_file(root, "inference") or config_file(root, "train") or root / "configs" / "inference.json"
    content = parse_config(config)
    definition = content.get("network_def")
    if isinstance(definition, dict) and "@" not in json.dumps(definition) and "%" not in json.dumps(definition):
        content = {"network_def": definition}
    require_trust(root, tuple(concerns_of(content, config.stem)), trust=trust)
    with in_one_sentence(config):
        return _network(_parser(content, {}, root, torch.device("cpu")), config)


def read_decision(post: Compose) -> Decision:
    """Read activation, threshold and interpolation off a bundle's postprocessing.

    The transforms that follow ``AsDiscreted``, save the one that writes, are kept to run on the finished label map.
    """
    steps = list(post.flatten().transforms) if isinstance(post, Compose) else [post]
    activation, threshold, nearest, after = "none", None, False, []
    discrete, values = False, None
    for step in steps:
        if isinstance(step, Activationsd):
            activation = "softmax" if step.softmax[0] else "sigmoid" if step.sigmoid[0] else "none"
        elif isinstance(step, Invertd):
            nearest = bool(step.nearest_interp[0])
        elif isinstance(step, AsDiscreted):
            discrete = True
            threshold = None if step.argmax[0] else step.threshold[0]
        elif discrete and isinstance(step, MapLabelValued):
            values = _class_values(step)
        elif discrete and not isinstance(step, SaveImaged):
            after.append(step)
    if not steps:
        activation = "softmax"
    if activation == "sigmoid" and threshold is None and not discrete:
        threshold = 0.5
    return Decision(activation, threshold, nearest, tuple(after), values)


def _class_values(step: MapLabelValued) -> tuple[int, ...]:
    """The value that a bundle gives each class in its label maps."""
    pairs = dict(zip(step.mapper.orig_labels, step.mapper.target_labels, strict=True))
    return tuple(int(pairs.get(number, number)) for number in range(max(map(int, pairs)) + 1))


def load_weights(network: nn.Module, checkpoint: Path) -> None:
    """Load the weights of a file into a network.

    Raises:
        UserError: the file is no checkpoint of plain tensors, does not fit the network, or holds NaN or infinity.
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


@contextmanager
def in_one_sentence(config: Path) -> Iterator[None]:
    """Turn whatever a configuration raises, through the parser's own layers, into one sentence for the user.

    Raises:
        UserError: any exception was raised inside.
    """
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while not isinstance(first, UserError) and (cause := first.__cause__ or first.__context__) is not None:
            first = cause
        if isinstance(first, UserError):
            raise first from error
        reason = " ".join(f"{type(first).__name__}: {first}".split())[:300]
        raise UserError(f"{config} cannot be built ({reason}): mend it or make the bundle anew.") from error


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
        raise UserError(f"{config} has a '{name}' that is no chain of transforms: write a Compose.")
    return chain


def _require_sane(window: WindowSettings, config: Path) -> None:
    sizes = [size for size in window.roi_size if size != -1]  # -1 takes the whole axis
    if any(size < 1 for size in sizes) or math.prod(sizes) > LARGEST_WINDOW:
        shown = " × ".join(map(str, window.roi_size))
        raise UserError(
            f"{config} has an inferer with a roi_size of {shown} voxels: give each axis 1 to some hundreds."
        )
    overlaps = window.overlap if isinstance(window.overlap, tuple) else (window.overlap,)
    if not all(0 <= overlap < 1 for overlap in overlaps):
        raise UserError(
            f"{config} has an inferer with an overlap of {window.overlap}: give at least 0 and less than 1."
        )


def _spelled_out(parser: ConfigParser, name: str) -> str:
    """A part of the configuration, with the parts that it refers to."""
    text = json.dumps(parser.config[name], sort_keys=True)
    references = sorted(set(re.findall(r"@([A-Za-z_]\w*)", text)) - {name, "device", "bundle_root"})
    return text + "".join(_spelled_out(parser, r) for r in references if r in parser.config)
