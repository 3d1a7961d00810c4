"""From an image on disk to the logits and probabilities of its classes, with a bundle that names them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from monai_transfer.bundle.facts import DIAGNOSIS, config_file, inspect_bundle, parse_config
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.errors import UserError
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.inference.probabilities import probabilities
from monai_transfer.machine import choose_device
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume


@dataclass(frozen=True)
class Diagnoser:
    """A bundle that names the class of an image, ready to be asked.

    Attributes:
        bundle: its network and preprocessing.
        device: where it runs.
        class_names: names of the outputs.
        exclusive: whether the classes exclude each other.
        temperature: what its logits are divided by.
        thresholds: from which probability on a class is named, of the finding or of every finding; empty for 0.5.
        reading: how strictly files are read.
    """

    bundle: InferenceBundle = field(repr=False)
    device: torch.device
    class_names: tuple[str, ...]
    exclusive: bool
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    reading: Reading = Reading(pictures=True)  # noqa: RUF009 (frozen)

    @classmethod
    def from_bundle(
        cls,
        root: str | Path,
        *,
        device: str = "auto",
        reading: Reading = Reading(),  # noqa: B008 (frozen)
        trust: bool = False,
    ) -> "Diagnoser":
        """Read a bundle folder.

        Args:
            root: the folder.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            reading: how strictly the volumes are read; pictures are read besides.
            trust: let a bundle that was not made here run whatever code it names.

        Raises:
            UntrustedBundleError: the bundle was made elsewhere and names code of its own.
            UserError: the bundle is incomplete, or one that segments.
        """
        facts = inspect_bundle(root)
        if not (facts.diagnoses or facts.both):
            raise UserError(f"{root} names no classes: diagnose with a bundle of train --task diagnosis, or segment.")
        chosen = choose_device(device)
        bundle = read_bundle(root, device=chosen, diagnosis=facts.both, trust=trust)
        name = DIAGNOSIS if facts.both else "inference"
        path = config_file(bundle.root, name) or bundle.root / "configs" / f"{name}.json"
        content = parse_config(path)
        count = bundle.out_channels or len(bundle.label_names)
        exclusive = bundle.decision.activation == "softmax"
        bundle.network.to(chosen)
        return cls(
            bundle,
            chosen,
            tuple(bundle.label_names.get(number, f"class_{number}") for number in range(count)),
            exclusive,
            _temperature(content, path),
            _thresholds(content, path, count=1 if exclusive else count),
            replace(reading, pictures=True),
        )

    def read(self, paths: Sequence[Path]) -> tuple[Volume, MetaTensor]:
        """An image as it lies in its files, and as the network sees it, ``(C, *shape)``.

        Raises:
            UserError: a file cannot be read, or has other axes or channels than the network takes.
        """
        volume = read_volume(paths[0] if len(paths) == 1 else list(paths), reading=self.reading)
        axes = spatial_dims_of(self.bundle.network)
        if len(volume.shape) != axes:
            kind = "pictures" if axes == 2 else "volumes"
            raise UserError(f"{volume.path} has {len(volume.shape)} axes and this bundle looks at {kind}: give those.")
        image = preprocess(volume, self.bundle.preprocessing, key=self.bundle.image_key, device=self.device)
        channels = self.bundle.in_channels
        if channels is not None and image.shape[0] != channels:
            raise UserError(f"{volume.path} has {image.shape[0]} channel(s) where the bundle takes {channels}.")
        return volume, image

    def logits(self, image: torch.Tensor) -> NDArray[np.float64]:
        """The network's answer to one preprocessed image ``(C, *shape)``, ``(classes,)``."""
        with torch.no_grad():
            answer = self.bundle.network(torch.as_tensor(image)[None].to(self.device))
        return np.asarray(answer[0].double().cpu().numpy(), np.float64)

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities ``(n, classes)`` of logits ``(n, classes)``."""
        return probabilities(logits, exclusive=self.exclusive, temperature=self.temperature)


def spatial_dims_of(network: torch.nn.Module) -> int:
    """2 or 3, by the network's first convolution."""
    two = any(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    return 2 if two else 3


def _temperature(content: dict[str, Any], path: Path) -> float:
    value = content.get("temperature", 1.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (0 < value < math.inf):
        raise UserError(f"{path} has a temperature of {value!r}: write a number above 0, such as 1.0.")
    return float(value)


def _thresholds(content: dict[str, Any], path: Path, *, count: int) -> tuple[float, ...]:
    values = content.get("thresholds", [])
    plain = isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1 for value in values
    )
    if not plain or len(values) not in (0, count):
        raise UserError(f"{path} has thresholds {values!r}: write {count} number(s) from 0 to 1, or none.")
    return tuple(map(float, values))
