"""What inference needs to know of a MONAI bundle: its network, preprocessing, window, and how logits become labels."""

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, MapLabelValued, SaveImaged, Transform
from monai.utils import ensure_tuple_rep
from torch import nn

from monai_transfer.bundle.facts import (
    DIAGNOSIS,
    OPTIONAL_CHANNELS,
    bundle_concerns,
    config_file,
    files_beside,
    finder_in,
    formats_of,
    in_one_sentence,
    label_names,
    parse_config,
    read_metadata,
    require_bundle,
    whole_number,
)
from monai_transfer.bundle.trust import content_of, parser_of, require_trust
from monai_transfer.errors import UserError
from monai_transfer.files import checksum
from monai_transfer.machine import require_holdable
from monai_transfer.weights.checkpoint import load_weights

LARGEST_WINDOW = 512**3
"""Voxels of a window: a float32 image of it has 0.5 GB, and the feature maps of a network tens of times that."""


@dataclass(frozen=True)
class WindowSettings:
    """What a bundle says about its sliding window, with the names of ``SlidingWindowInferer``.

    Attributes:
        roi_size: voxels of a window along each axis; -1 takes the whole axis.
        overlap: share of a window that the next one covers again, in [0, 1), one for all axes or one each.
        mode: ``"gaussian"`` or ``"constant"`` blending.
        sigma_scale: standard deviation of the gaussian as a share of the window.
        padding_mode: how a volume smaller than the window is padded.
        cval: the value of constant padding.
        batch: windows per forward pass that the bundle asks for.
    """

    roi_size: tuple[int, ...]
    overlap: float | tuple[float, ...] = 0.25
    mode: str = "constant"
    sigma_scale: float | tuple[float, ...] = 0.125
    padding_mode: str = "constant"
    cval: float = 0.0
    batch: int = 1

    def in_3d(self) -> "WindowSettings":
        """The same settings with a third axis of one voxel where there are two."""
        if len(self.roi_size) == 3:
            return self
        overlap = self.overlap if isinstance(self.overlap, float) else (*self.overlap, 0.0)
        sigma = self.sigma_scale if isinstance(self.sigma_scale, float) else (*self.sigma_scale, 0.125)
        return replace(self, roi_size=(*self.roi_size, 1), overlap=overlap, sigma_scale=sigma)

    @classmethod
    def of(cls, inferer: object, *, spatial_dims: int = 3) -> "WindowSettings":
        """Read the settings of a ``SlidingWindowInferer`` (or of an inferer with the same attributes).

        An inferer without a window, such as ``SimpleInferer``, sees the whole volume at once.
        """
        if not callable(inferer):
            raise TypeError("the inferer is not one of MONAI's")  # a sentence is made of it where the bundle is read
        roi = getattr(inferer, "roi_size", None)
        if roi is None:
            return cls(roi_size=(-1, -1, -1))
        across = getattr(inferer, "spatial_dim", None)  # SliceInferer: a 2D network slice by slice
        if across is not None and not isinstance(roi, int) and len(roi) == 2:
            roi = (*roi[:across], 1, *roi[across:])
        sizes = ensure_tuple_rep(roi, spatial_dims if isinstance(roi, int) else len(roi))
        overlap, sigma = getattr(inferer, "overlap", 0.25), getattr(inferer, "sigma_scale", 0.125)
        return cls(
            roi_size=tuple(int(n or -1) for n in sizes),
            overlap=tuple(overlap) if isinstance(overlap, Sequence) else float(overlap),
            mode=str(getattr(inferer, "mode", "constant")),
            sigma_scale=tuple(sigma) if isinstance(sigma, Sequence) else float(sigma),
            padding_mode=str(getattr(inferer, "padding_mode", "constant")),
            cval=float(getattr(inferer, "cval", 0.0)),
            batch=int(getattr(inferer, "sw_batch_size", 1)),
        )


def require_sane(window: WindowSettings, network: nn.Module, config: Path) -> None:
    """Refuse windows that the network does not take, and overlaps that leave no step.

    Raises:
        UserError: naming the configuration.
    """
    flat = len(window.roi_size) == 2 and any(isinstance(layer, nn.Conv3d) for layer in network.modules())
    if flat or not 1 <= len(window.roi_size) <= 3:
        raise UserError(f"{config} has a roi_size of {len(window.roi_size)} axes: give as many as the network has.")
    sizes = [size for size in window.roi_size if size != -1]  # -1 takes the whole axis
    if any(size < 1 for size in sizes) or math.prod(sizes) > LARGEST_WINDOW:
        shown = " × ".join(map(str, window.roi_size))
        raise UserError(f"{config} has a roi_size of {shown} voxels: give each axis 1 to some hundreds.")
    overlaps = window.overlap if isinstance(window.overlap, tuple) else (window.overlap,)
    if not all(0 <= overlap < 1 for overlap in overlaps):
        raise UserError(f"{config} has an overlap of {window.overlap}: give at least 0 and less than 1.")


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

    @property
    def exclusive(self) -> bool:
        """Whether a voxel has one label; else labels may overlap, and there is no background among the classes."""
        return self.threshold is None

    def drawn(self, names: Mapping[int, str]) -> dict[int, str]:
        """Those of the classes that are labels: all of overlapping ones, else all but the background."""
        return {number: name for number, name in names.items() if number or not self.exclusive}


def read_decision(post: Compose) -> Decision:
    """Read activation, threshold and interpolation off a bundle's postprocessing.

    The transforms that follow ``AsDiscreted``, save the one that writes, are kept to run on the finished label map.
    """
    steps, after = list(post.flatten().transforms), []
    activation, threshold, nearest = "none" if steps else "softmax", None, False
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
    if activation == "sigmoid" and threshold is None and not discrete:
        threshold = 0.5
    return Decision(activation, threshold, nearest, tuple(after), values)


def _class_values(step: MapLabelValued) -> tuple[int, ...]:
    """The value that a bundle gives each class in its label maps."""
    pairs = dict(zip(step.mapper.orig_labels, step.mapper.target_labels, strict=True))
    return tuple(int(pairs.get(number, number)) for number in range(max(map(int, pairs)) + 1))


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
        finder: finds the box in which this one looks; ``None`` where it looks at whole images.
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
    finder: "InferenceBundle | None" = None


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
    named = (config_file(root, DIAGNOSIS) if diagnosis else None) or config_file(root, "inference")
    config = named or root / "configs" / "inference.json"
    checkpoint = Path(weights) if weights else root / "models" / f"{DIAGNOSIS if diagnosis else 'model'}.pt"
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint} is missing; name the folder of a complete MONAI bundle with --bundle.")
    metadata, content = read_metadata(root), parse_config(config)
    require_trust(root, lambda: bundle_concerns(root, content), trust=trust)
    with in_one_sentence(config):
        parser = parser_of(content, metadata, root, device)
        network = network_in(parser, config, checkpoint)
        load_weights(network, checkpoint)
        preprocessing = _chain(parser, "preprocessing", config)
        post = _chain(parser, "postprocessing", config) if "postprocessing" in parser.config else Compose([])
        window = WindowSettings.of(content_of(parser, ("inferer",), config))
        require_sane(window, network, config)
        image_format, pred_format = formats_of(metadata)
        if diagnosis:  # the metadata tell of the first network
            names = found if isinstance(found := content.get("class_names"), list) else []
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
            checksum=checksum((config, checkpoint, *files_beside(root))),
            channel_names=label_names(image_format.get("channel_def"), root),
            optional_channels=metadata.get(OPTIONAL_CHANNELS) is True,
            finder=None if (inner := finder_in(root)) is None else read_bundle(inner, device=device, trust=trust),
        )


def network_in(parser: ConfigParser, config: Path, weights: Path) -> nn.Module:
    """The network that a configuration defines; a ``UserError`` where it is none, or too large for its weights."""
    names = ("network_def", "network")
    twin = ConfigParser(config=copy.deepcopy(parser.config))
    require_holdable(lambda: content_of(twin, names, config), weights, f"The network of {config}")
    network = content_of(parser, names, config)
    if not isinstance(network, nn.Module):
        raise UserError(f"{config} defines no network: its network_def must name one with _target_.")
    return network


def _chain(parser: ConfigParser, name: str, config: Path) -> Compose:
    chain = content_of(parser, (name,), config)
    if not isinstance(chain, Compose) or (name == "preprocessing" and not chain.transforms):
        raise UserError(f"{config} has a '{name}' that is not a chain of transforms: write a Compose.")
    return chain


def _spelled_out(parser: ConfigParser, name: str) -> str:
    """A part of the configuration, with the parts that it refers to."""
    text = json.dumps(parser.config[name], sort_keys=True)
    references = sorted(set(re.findall(r"@([A-Za-z_]\w*)", text)) - {name, "device", "bundle_root"})
    return text + "".join(_spelled_out(parser, r) for r in references if r in parser.config)
