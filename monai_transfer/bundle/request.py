"""What is asked of a training: its options, checked before any data are read, and the cases of its domains."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.bundle.networks import require_network
from monai_transfer.datasets import CaseDataset, read_dataset
from monai_transfer.errors import UserError
from monai_transfer.machine import choose_device, require_device, require_precision
from monai_transfer.options import (
    BatchSize,
    BodyScale,
    ChannelDropout,
    Hounsfield,
    LearningRate,
    Minutes,
    Precision,
    Seed,
    Spacing,
    Steps,
    given_of,
    require_order,
    validated,
)
from monai_transfer.volumes.volume import Reading

if TYPE_CHECKING:
    from monai_transfer.bundle.pacing import Pace
    from monai_transfer.bundle.plan import Plan
    from monai_transfer.datasets import Fingerprint

LABELLED_TARGET = "target_labelled"
"""The domain of the target cases whose labels are learnt too."""

TEST_SHARE = 0.3
"""Share of a labelled target that is set aside for testing when no test set is given."""

_VALIDATED_SHARE = 0.2
"""Share of the source's cases that an adaptation watches, where there are more than two of them."""


@dataclass(frozen=True)
class Domains:
    """The cases of one adaptation; no test subject is in any training set.

    Attributes:
        source: labelled training cases.
        target: target training cases; their labels, where there are any, train the oracle alone.
        test: labelled target cases, or ``None`` when there are none.
        notes: sentences about what was set aside and why.
        further_sources: more labelled training cases, each set a domain of its own.
        labelled_target: target cases whose labels are learnt too, or ``None``.
        finder: a bundle that finds the box of each new scan in which the networks look; the training cases are such
            boxes then. ``None`` for whole volumes.
    """

    source: CaseDataset
    target: CaseDataset
    test: CaseDataset | None
    notes: tuple[str, ...] = ()
    further_sources: tuple[CaseDataset, ...] = ()
    labelled_target: CaseDataset | None = None
    finder: Path | None = None

    @property
    def further(self) -> dict[str, CaseDataset]:
        """Domain name -> cases, of every labelled domain beside the first source."""
        named = {f"source_{number}": cases for number, cases in enumerate(self.further_sources, start=2)}
        return named if self.labelled_target is None else {**named, LABELLED_TARGET: self.labelled_target}

    @property
    def has_oracle(self) -> bool:
        """Whether enough target training cases carry labels to train the ceiling."""
        return self.test is not None and len(self.target.labelled) > 0


def choose_domains(
    source: str | Path,
    target: str | Path,
    test: str | Path | None = None,
    *,
    source_cases: Sequence[str] = (),
    target_cases: Sequence[str] = (),
    test_cases: Sequence[str] = (),
    further_sources: Sequence[str | Path] = (),
    labelled_target_cases: Sequence[str] = (),
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Domains:
    """Read the domains and keep test subjects out of training.

    Without a test set, a share of a labelled target is set aside. A case whose name also is a test case is taken out of
    all else: the same person may have been scanned in every domain.

    Args:
        source: data set with labels.
        target: data set of the domain to adapt to.
        test: labelled target data set for the scores; with ``test_cases`` alone, a part of ``target``.
        source_cases: name patterns of the training cases of every source; all by default.
        target_cases: name patterns of the target training cases; all by default.
        test_cases: name patterns of the test cases.
        further_sources: more data sets with the same labels.
        labelled_target_cases: name patterns of the target cases whose labels are learnt too; none by default.
        reading: how strictly the files of every domain are read.

    Raises:
        UserError: when a domain has no case left or a source has no labels.
    """
    everything = read_dataset(target, reading=reading)
    sources = [labelled_cases(path, source_cases, reading) for path in (source, *further_sources)]
    chosen = everything.select(target_cases or ["*"])
    shown = everything.select(labelled_target_cases).labelled
    notes: list[str] = []
    held: CaseDataset | None = None
    if test is not None or test_cases:
        tested = everything if test is None else read_dataset(test, reading=reading)
        held = tested.select(test_cases or ["*"]).labelled
        if not held.cases:
            raise UserError(f"{test or target} has no labelled test cases: omit --test to adapt without scores.")
    elif len(unseen := chosen.labelled.without(shown.names)) >= 2:
        held = unseen.split(TEST_SHARE)[1]
        notes.append(f"{len(held)} of {len(unseen)} labelled target cases are set aside for testing.")
    names = held.names if held is not None else ()
    training, target_training = [cases.without(names) for cases in sources], chosen.without(names)
    if left_out := sum(map(len, sources)) - sum(map(len, training)):
        notes.append(f"{left_out} source cases are left out: they bear the name of a test case.")
    roles = [*(("source", cases) for cases in training), ("target", target_training)]
    if labelled_target_cases:
        shown = shown.without(names)
        roles.append(("labelled target", shown))
        notes.append(f"The labels of {len(shown)} target case(s) are learnt too: {', '.join(shown.names)}.")
    for role, cases in roles:
        if not cases.cases:
            raise UserError(f"No {role} case of {cases.root} is left for training once the test cases are taken out.")
    first, *others = training
    return Domains(first, target_training, held, tuple(notes), tuple(others), shown if shown.cases else None)


def plan_adaptation(domains: Domains, *, device: str = "auto", pace: "Pace | None" = None, **options: Any) -> "Plan":
    """Check every case of the domains and plan their training.

    Args:
        domains: the cases.
        device: where to train.
        pace: the time that all trainings together may take, which decides grid and steps.
        options: fields of :class:`~monai_transfer.bundle.request.PlanOptions`; the size of the target's bodies is
            measured (:func:`~monai_transfer.datasets.body_scale`) where it is not given.

    Raises:
        UserError: for the first fault in any data set, or an option out of range.
    """
    from monai_transfer.bundle.plan import make_plan  # here: a folder that is missing is told before MONAI is there
    from monai_transfer.datasets import body_scale, require_sound

    PlanOptions(device=device, **options)
    source = require_sound(domains.source, labelled=True)
    target = require_sound(domains.target, labelled=False)
    if domains.test is not None:
        require_sound(domains.test, labelled=True)
    names = domains.source.names_for(source.label_values)
    others = []
    for name, cases in domains.further.items():
        found = require_sound(cases, labelled=True)
        _require_alike(domains.source, source, cases, found)
        if name != LABELLED_TARGET:
            _require_complete(domains.source, source, cases, found)
            others.append(found)
    if options.get("body_scale") is None:
        options["body_scale"] = body_scale(domains.source, domains.target)
    fixed: dict[str, Any] = {"label_names": names, "device": choose_device(device), "pace": pace}
    return make_plan(source, target, further=others, **fixed, **options)


def labelled_cases(path: str | Path, patterns: Sequence[str], reading: Reading) -> CaseDataset:
    """The labelled cases of a source whose names match any of the patterns; all without a pattern.

    Raises:
        UserError: there is none, or a pattern matches no case.
    """
    found = read_dataset(path, reading=reading).select(patterns or ["*"]).labelled
    if not found.cases:
        raise UserError(f"{path} has no labels: adaptation learns from a labelled source; add a labels folder.")
    return found


def split_source(source: CaseDataset) -> tuple[CaseDataset, CaseDataset]:
    """The source's cases that an adaptation learns from, and those that it watches; all of them where there are few."""
    return source.split(_VALIDATED_SHARE) if len(source) > 2 else (source, source)


def held_source(source: CaseDataset) -> CaseDataset | None:
    """The source's cases that an adaptation does not learn from; ``None`` where there are too few to hold any back."""
    return split_source(source)[1] if len(source) > 2 else None


def _require_alike(first: CaseDataset, known: "Fingerprint", other: CaseDataset, found: "Fingerprint") -> None:
    """See that two labelled sets can be learnt together.

    Raises:
        UserError: the other has other channels, further labels, or a label value means two things.
    """
    from monai_transfer.datasets.label_values import require_one_meaning  # here: SciPy

    if len(other.channel_names) != len(first.channel_names):
        raise UserError(
            f"{other.root} has {len(other.channel_names)} channel(s), {first.root} has {len(first.channel_names)}: "
            "give every set the same channels."
        )
    if unknown := sorted(set(found.label_values) - set(known.label_values)):
        raise UserError(
            f"{other.root} has the label {unknown[0]}, which {first.root} has not: give every set the same labels."
        )
    foreground = {value: name for value, name in other.label_names.items() if value > 0}
    require_one_meaning(first.label_names, foreground, known_in=first.root, data_in=other.root)


def _require_complete(first: CaseDataset, known: "Fingerprint", other: CaseDataset, found: "Fingerprint") -> None:
    """See that no label of the first set is missing from the other, which would teach it as background.

    Raises:
        UserError: one is.
    """
    if missing := sorted(set(known.label_values) - set(found.label_values)):
        raise UserError(
            f"{other.root} lacks the label {missing[0]}, which {first.root} has: there it would be learnt as "
            "background, so give every source the same labels."
        )


@validated
class PlanOptions:
    """The options of a training that can be checked before its data are read; ``None`` leaves the planned value.

    Attributes:
        spacing: working grid in mm, one number per axis.
        window: HU that become -1 and 1, the lower first; CT only.
        network: a name of :data:`monai_transfer.bundle.networks.NETWORKS`.
        steps: optimizer steps.
        minutes: time of all trainings together, which decides grid and steps (``train`` and ``adapt``).
        learning_rate: peak learning rate.
        batch_size: cases per domain and step.
        channel_dropout: share of the training images of several channels that lose some of them.
        seed: seed of every random generator.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32``, ``bfloat16`` or ``float16``, of the network's passes in training.
        body_scale: size of the target's bodies beside the source's (``adapt``); ``None`` measures it.

    Example:
        >>> PlanOptions(steps=40, device="cpu").given
        {'steps': 40, 'device': 'cpu'}
    """

    spacing: tuple[Spacing, Spacing, Spacing] | None = None
    window: tuple[Hounsfield, Hounsfield] | None = None
    network: str | None = None
    steps: Steps | None = None
    minutes: Minutes | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    channel_dropout: ChannelDropout | None = None
    seed: Seed | None = None
    device: str = "auto"
    precision: Precision | None = None
    body_scale: BodyScale | None = None

    def __post_init__(self) -> None:
        """Refuse what is unknown, absent or upside down, and steps beside the time that decides them."""
        if self.steps is not None and self.minutes is not None:
            raise UserError("--steps is decided by --minutes: give one of them.")
        if self.network is not None:
            require_network(self.network)
        if self.window is not None:
            require_order(self.window)
        require_device(self.device)
        if self.precision == "float16":  # of a GPU alone: whether ``auto`` is one takes torch to say
            require_precision(self.precision, choose_device(self.device).type)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are set, as the planning functions take them; these are given the time apart."""
        return given_of({**asdict(self), "minutes": None})
