"""What the weights that a fine-tuning starts from say about its network, working grid and labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.facts import BundleFacts, in_one_sentence, inspect_bundle, is_published
from monai_transfer.bundle.fetching import fetch_bundle
from monai_transfer.bundle.networks import known_network, network_definition, network_name
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.trust import UntrustedBundleError
from monai_transfer.datasets.label_values import require_one_meaning
from monai_transfer.errors import UserError
from monai_transfer.finetuning import start_from
from monai_transfer.options import given_of
from monai_transfer.weights import LoadReport, locate, read_checkpoint, recognise
from monai_transfer.weights.catalogue import SOURCES, find


@dataclass(frozen=True)
class StartingPoint:
    """Weights to start from.

    Attributes:
        spec: as given.
        network: a name of :data:`~monai_transfer.bundle.networks.NETWORKS`, or None where the weights do not tell.
        bundle: the folder of the bundle, where the weights are one that trains as this package's do.
        definition: its ``network_def``.
        options: its working grid: fields of :class:`~monai_transfer.bundle.plan.Plan`.
        label_names: value -> name of its classes.
        concerns: what a foreign ``network_def`` asks for beyond the allow-list.
    """

    spec: str
    network: str | None
    bundle: Path | None = None
    definition: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)
    concerns: tuple[str, ...] = ()

    @property
    def absolute(self) -> str:
        """The SPEC as a bundle that lies elsewhere may keep it."""
        path = Path(self.spec).expanduser()
        return str(path.resolve()) if path.exists() else self.spec

    def options_beside(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a plan: those that are given, and the network and the working grid of the weights beside them.

        Raises:
            UserError: the weights are a bundle, and another network is asked for.
        """
        given = given_of(given)
        if self.definition is not None and given.get("network", self.network) != self.network:
            raise UserError(f"--network {given['network']} is not the network of {self.spec}: omit --network.")
        inherited = {} if "spacing" in given else dict(self.options)
        return {"network": self.network, **inherited, **given}

    def plan(self, make: Callable[..., Plan], given: Mapping[str, Any], *, channels: int) -> Plan:
        """The plan of a training that starts from the weights.

        Args:
            make: gives the plan for options.
            given: the options; the network and the working grid of the weights stand in for those that are not.
            channels: of the images.

        Raises:
            UserError: an option is out of range, or the weights do not fit.
        """
        # the windows of the weights' own training are of another field of view
        chosen = {name: value for name, value in self.options_beside(given).items() if name != "roi_size"}
        plan = make(**chosen).with_options(weights=self.absolute)
        definition = network_definition(plan.network, classes=plan.classes, channels=channels)
        try_weights(self, definition, label_names=plan.class_names)
        return plan

    def into(self, other: "StartingPoint") -> "StartingPoint":
        """These weights for the network of ``other``, so that the two can be compared; none of their own is built."""
        return replace(self, network=other.network, definition=other.definition, bundle=None, concerns=())

    def knows(self, label_names: Mapping[int, str]) -> bool:
        """Whether the weights segment every label of the data, by its name.

        Example:
            >>> StartingPoint("b", None, label_names={0: "background", 2: "liver"}).knows({0: "background", 1: "liver"})
            True
        """
        return set(label_names.values()) <= set(self.label_names.values())

    def require_bundle(self, option: str) -> Path:
        """The bundle that the weights are, for an option that needs one.

        Raises:
            UserError: they are not a bundle that segments.
        """
        if self.bundle is None:
            raise UserError(f"{option} needs --weights to be a bundle that segments, and {self.spec} is not one.")
        return self.bundle

    def require_trust(self, trust: bool) -> None:
        """See that the network may be built.

        Raises:
            UntrustedBundleError: it is that of a foreign bundle, names code of its own, and ``trust`` is off.
        """
        if self.concerns and not trust and self.bundle is not None:
            raise UntrustedBundleError(self.bundle, self.concerns)


def read_starting_point(spec: str) -> StartingPoint:
    """Read what ``spec`` says of the network to build, fetching a file where it must be looked into.

    Raises:
        UserError: the weights cannot be had.
    """
    source = spec.split(":", 1)[0]
    if source in SOURCES and ":" in spec:
        return StartingPoint(spec, known_network(find(spec).network))
    if is_published(spec):
        spec = str(fetch_bundle(spec))
    path = Path(spec).expanduser()
    if (path / "configs").is_dir():
        facts = inspect_bundle(path)
        if facts.trains:
            return _from_bundle(spec, facts)
    return StartingPoint(spec, known_network(recognise(read_checkpoint(locate(spec)).tensors).backbone))


def try_weights(
    start: StartingPoint, definition: Mapping[str, Any], *, label_names: Mapping[int, str], **rules: Any
) -> LoadReport:
    """Load the weights into a network of this definition, before anything is made.

    Args:
        start: the weights.
        definition: ``network_def`` of the network that will be trained.
        label_names: its classes by index.
        rules: further arguments of :func:`~monai_transfer.finetuning.start_from`.

    Raises:
        UserError: they cover too little of it (the message says what the file looks like), or it has no such level.
    """
    with in_one_sentence(Path(start.spec)):
        network = ConfigParser({"network_def": dict(definition)}).get_parsed_content("network_def")
    report = start_from(network, start.absolute, label_names=label_names, **rules)
    if report is None:
        raise UserError("--weights is empty: name weights to start from, or omit it.")
    return report


def merged_labels(start: StartingPoint, data: Mapping[int, str]) -> dict[int, str]:
    """The bundle's classes and those of the new data by value: old names stay, new ones are added.

    Raises:
        UserError: both call the same value by different names.
    """
    require_one_meaning(start.label_names, data, known_in=start.spec)
    return {**start.label_names, **{value: name for value, name in data.items() if value not in start.label_names}}


def _from_bundle(spec: str, facts: BundleFacts) -> StartingPoint:
    definition = facts.network_def or {}
    return StartingPoint(
        spec=spec,
        network=network_name(definition),
        bundle=facts.root,
        definition=definition,
        options=facts.options,
        label_names=facts.label_names,
        concerns=tuple(concerns_of({"network_def": definition}, "train")) if facts.foreign else (),
    )
