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
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, SaveImaged, Transform
from torch import nn

from monai_transfer.bundle.window import WindowSettings
from monai_transfer.errors import UserError
from monai_transfer.files import sha256

GENERATOR = "monai-transfer"
"""Value of ``generator`` in the metadata of bundles that this package wrote."""


@dataclass(frozen=True)
class Decision:
    """How logits become labels.

    Attributes:
        activation: ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        threshold: a class is present where its probability reaches this; None takes the largest class.
        nearest: restore by nearest neighbour (MONAI's ``nearest_interp=True``) instead of linearly.
        after: the bundle's own transforms of the finished label map, such as ``FillHolesd``.
    """

    activation: str = "softmax"
    threshold: float | None = None
    nearest: bool = False
    after: tuple[Transform, ...] = ()


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
    root: str | Path, *, device: torch.device | str = "cpu", weights: str | Path | None = None
) -> InferenceBundle:
    """Read a bundle folder. Reading it runs the code that its configuration names.

    Args:
        root: the bundle's folder.
        device: handed to the configuration as its ``device``.
        weights: a checkpoint to use instead of ``models/model.pt``.

    Raises:
        UserError: when a file or a part of the configuration is missing, or the weights do not fit.
    """
    root = Path(root).expanduser().resolve()
    config, metadata = _config_file(root), root / "configs" / "metadata.json"
    checkpoint = Path(weights) if weights else root / "models" / "model.pt"
    for needed in (config, checkpoint):
        if not needed.is_file():
            raise UserError(f"{needed} is missing; name the folder of a complete MONAI bundle with --bundle.")
    meta = json.loads(metadata.read_text()) if metadata.is_file() else {}
    parser = ConfigParser()
    parser.read_config(config)
    if meta:
        parser.read_meta(metadata)
    parser["bundle_root"], parser["device"] = str(root), torch.device(device)
    if "imports" in parser.config:
        _content(parser, ("imports",), config)
    network = _content(parser, ("network_def", "network"), config)
    load_weights(network, checkpoint)
    preprocessing = _content(parser, ("preprocessing",), config)
    post = _content(parser, ("postprocessing",), config) if "postprocessing" in parser.config else Compose([])
    image_format = meta.get("network_data_format", {}).get("inputs", {}).get("image", {})
    pred_format = meta.get("network_data_format", {}).get("outputs", {}).get("pred", {})
    return InferenceBundle(
        root=root,
        network=network.eval(),
        preprocessing=preprocessing,
        recipe=_spelled_out(parser, "preprocessing"),
        image_key=str(preprocessing.flatten().transforms[0].keys[0]),
        window=WindowSettings.of(_content(parser, ("inferer",), config)),
        decision=read_decision(post),
        label_names=_label_names(pred_format.get("channel_def", {})),
        in_channels=image_format.get("num_channels"),
        out_channels=pred_format.get("num_channels"),
        checksum=checksum((config, checkpoint)),
    )


def made_here(root: str | Path) -> bool:
    """Whether a bundle's metadata says that this package wrote it; nothing of the bundle is run to tell."""
    metadata = Path(root).expanduser() / "configs" / "metadata.json"
    try:
        return bool(json.loads(metadata.read_text()).get("generator") == GENERATOR)
    except (OSError, ValueError, AttributeError):
        return False


def read_decision(post: Compose) -> Decision:
    """Read activation, threshold and interpolation off a bundle's postprocessing.

    The transforms that follow ``AsDiscreted``, save the one that writes, are kept to run on the finished label map.
    """
    steps = list(post.flatten().transforms) if isinstance(post, Compose) else [post]
    activation, threshold, nearest, after = "none", None, False, []
    discrete = False
    for step in steps:
        if isinstance(step, Activationsd):
            activation = "softmax" if step.softmax[0] else "sigmoid" if step.sigmoid[0] else "none"
        elif isinstance(step, Invertd):
            nearest = bool(step.nearest_interp[0])
        elif isinstance(step, AsDiscreted):
            discrete = True
            threshold = None if step.argmax[0] else step.threshold[0]
        elif discrete and not isinstance(step, SaveImaged):
            after.append(step)
    if not steps:
        activation = "softmax"
    if activation == "sigmoid" and threshold is None and not discrete:
        threshold = 0.5
    return Decision(activation, threshold, nearest, tuple(after))


def load_weights(network: nn.Module, checkpoint: Path) -> None:
    """Load a bare state dict, or one kept under ``model``, ``network`` or ``state_dict``.

    Raises:
        UserError: when the file is no checkpoint of plain tensors or does not fit the network.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{checkpoint} is no checkpoint of plain tensors; save the network's state_dict.") from error
    for key in ("model", "network", "state_dict"):
        state = state[key] if isinstance(state.get(key), Mapping) else state
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{checkpoint} does not fit the bundle's network_def: {first}") from error


def checksum(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of ``files``."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def _config_file(root: Path) -> Path:
    if not root.is_dir():
        raise UserError(f"{root} is no bundle folder; name one with --bundle ('monai-transfer bundles list' helps).")
    return next(
        (p for s in ("json", "yaml") if (p := root / "configs" / f"inference.{s}").is_file()),
        root / "configs" / "inference.json",
    )


def _content(parser: ConfigParser, names: Sequence[str], config: Path) -> Any:
    name = next((n for n in names if n in parser.config), None)
    if name is None:
        raise UserError(f"{config} has no '{names[0]}'; inference needs it.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Current default value of argument.*")
        return parser.get_parsed_content(name)


def _spelled_out(parser: ConfigParser, name: str) -> str:
    """A part of the configuration, with the parts that it refers to."""
    text = json.dumps(parser.config[name], sort_keys=True)
    references = sorted(set(re.findall(r"@([A-Za-z_]\w*)", text)) - {name, "device", "bundle_root"})
    return text + "".join(_spelled_out(parser, r) for r in references if r in parser.config)


def _label_names(channels: Mapping[str, str]) -> dict[int, str]:
    return {int(k): str(v) for k, v in channels.items()} if channels else {}
