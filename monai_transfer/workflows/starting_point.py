"""What the weights that a fine-tuning starts from say about its network, working grid and labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.networks import known_network, network_name
from monai_transfer.bundle.plan import require_one_meaning
from monai_transfer.errors import UserError
from monai_transfer.weights import locate, read_checkpoint, recognise
from monai_transfer.weights.catalogue import SOURCES, find

_PLANNED = ("spacing", "roi_size", "window")


@dataclass(frozen=True)
class StartingPoint:
    """Weights to start from.

    Attributes:
        spec: as given.
        network: a name of :data:`~monai_transfer.bundle.networks.NETWORKS`, or None where the weights do not tell.
        bundle: the bundle, where the weights are one that this package made.
        definition: its ``network_def``.
        options: its working grid: fields of :class:`~monai_transfer.bundle.plan.Plan`.
        label_names: value -> name of its classes.
    """

    spec: str
    network: str | None
    bundle: BundleFolder | None = None
    definition: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)

    def require_bundle(self, option: str) -> BundleFolder:
        """The bundle that the weights are, for an option that needs one.

        Raises:
            UserError: they are not a bundle that segments.
        """
        if self.bundle is None:
            raise UserError(f"{option} needs --weights to be a bundle that segments, and {self.spec} is not one.")
        return self.bundle


def read_starting_point(spec: str) -> StartingPoint:
    """Read what ``spec`` says of the network to build, fetching a file where it must be looked into.

    Raises:
        UserError: the weights cannot be had.
    """
    source = spec.split(":", 1)[0]
    if source in SOURCES and ":" in spec:
        return StartingPoint(spec, known_network(find(spec).network))
    path = Path(spec).expanduser()
    if (path / "configs" / "train.json").is_file():
        started = _from_bundle(spec, BundleFolder(path))
        if started is not None:
            return started
    return StartingPoint(spec, known_network(recognise(read_checkpoint(locate(spec)).tensors).backbone))


def merged_labels(start: StartingPoint, data: Mapping[int, str]) -> dict[int, str]:
    """The bundle's classes and those of the new data by value: old names stay, new ones are added.

    Raises:
        UserError: both call the same value by different names.
    """
    require_one_meaning(start.label_names, data, known_in=start.spec)
    return {**start.label_names, **{value: name for value, name in data.items() if value not in start.label_names}}


def _from_bundle(spec: str, bundle: BundleFolder) -> StartingPoint | None:
    config = bundle.read("train")
    definition = config.get("network_def")
    if not isinstance(definition, dict) or not isinstance(config.get("labels"), dict):
        return None
    return StartingPoint(
        spec=spec,
        network=network_name(definition),
        bundle=bundle,
        definition=definition,
        options={name: tuple(config[name]) for name in _PLANNED if isinstance(config.get(name), list)},
        label_names={int(value): str(name) for value, name in config["labels"].items()},
    )
