"""Training for diagnosis, from scratch or from pretrained weights: a bundle that is calibrated, scored and reported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_transfer.bundle.allowed import concerns_of
from monai_transfer.bundle.diagnosis_configs import TEMPLATE, diagnosis_configs
from monai_transfer.bundle.diagnosis_networks import DIAGNOSIS_NETWORKS, diagnosis_network, with_outputs
from monai_transfer.bundle.diagnosis_plan import DiagnosisOptions, DiagnosisPlan, Sensitivity, make_diagnosis_plan
from monai_transfer.bundle.facts import in_one_sentence, inspect_bundle
from monai_transfer.bundle.folder import BundleFolder, require_free
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import ExamDataset, require_sound_exams
from monai_transfer.errors import UserError
from monai_transfer.finetuning import freeze
from monai_transfer.machine import choose_device
from monai_transfer.options import checked
from monai_transfer.weights import LoadReport, load_pretrained
from monai_transfer.workflows.diagnosis_efficiency import EfficiencyRun, diagnosis_efficiency
from monai_transfer.workflows.diagnosis_reporting import DiagnosisTraining, report_diagnosis
from monai_transfer.workflows.diagnosis_scoring import calibrate, score_exams
from monai_transfer.workflows.exam_split import ExamSplit
from monai_transfer.workflows.finetuning import Baselines
from monai_transfer.workflows.finetuning_runs import Existing
from monai_transfer.workflows.starting_point import StartingPoint, read_starting_point

TRANSFER_RATE_DIAGNOSIS = 5e-4
"""Peak learning rate from pretrained weights: an eighth of that of a training from scratch, to keep what they know."""

SCRATCH_RATE_DIAGNOSIS = 8 * TRANSFER_RATE_DIAGNOSIS
"""That of a plan without weights."""


def read_diagnosis_start(spec: str) -> StartingPoint:
    """What weights say of the network to build; of a bundle that names classes also its grid and its classes.

    Raises:
        UserError: the weights cannot be had.
    """
    path = Path(spec).expanduser()
    if (path / "configs").is_dir():
        facts = inspect_bundle(path)
        if facts.diagnoses and facts.network_def is not None:
            definition = dict(facts.network_def)
            concerns = concerns_of({"network_def": definition}, "train") if facts.foreign else []
            return StartingPoint(
                spec, None, facts.root, definition, dict(facts.options), dict(facts.label_names), tuple(concerns)
            )
    start = read_starting_point(spec)
    if start.network not in DIAGNOSIS_NETWORKS:
        return StartingPoint(spec, None)
    return StartingPoint(spec, start.network)


def plan_diagnosis(split: ExamSplit, start: StartingPoint | None = None, **options: Any) -> DiagnosisPlan:
    """Check every examination and plan the training.

    Args:
        split: the examinations.
        start: the weights; their network, and of a bundle its grid, are taken where no option says otherwise.
        options: those of :class:`~monai_transfer.bundle.diagnosis_plan.DiagnosisOptions`.

    Raises:
        UserError: for the first fault in the data, or an option out of range or that does not suit the images.
    """
    chosen = DiagnosisOptions(**options)
    report = require_sound_exams(split.everything)
    require_sound_exams(split.held)
    given = {name: value for name, value in chosen.given.items() if name not in ("device", "size", "spacing")}
    inherited: dict[str, Any] = {}
    if start is not None:
        given = {"learning_rate": TRANSFER_RATE_DIAGNOSIS, **given}
        if start.definition is not None and "network" in given:
            raise UserError(f"--network {given['network']} is not needed: the network is that of {start.spec}.")
        if start.definition is not None:
            inherited = _inherited(start)
        elif start.network is not None:
            given = {"network": start.network, **given}
    return make_diagnosis_plan(
        report,
        class_names=split.training.class_names,
        exclusive=split.training.exclusive,
        device=choose_device(chosen.device),
        size=chosen.size,
        spacing=chosen.spacing,
        inherited=inherited if chosen.size is None and chosen.spacing is None else None,
        **given,
    )


def network_of_diagnosis(plan: DiagnosisPlan, start: StartingPoint | None) -> dict[str, Any]:
    """``network_def``: that of the starting bundle with the new classes, or the plan's."""
    classes = len(plan.class_names)
    if start is not None and start.definition is not None:
        return with_outputs(start.definition, classes=classes, channels=plan.channels)
    return diagnosis_network(plan.network, classes=classes, channels=plan.channels, spatial_dims=plan.spatial_dims)


def check_diagnosis_weights(
    start: StartingPoint, plan: DiagnosisPlan, strategy: Strategy, *, trust: bool = False
) -> LoadReport:
    """Load the weights into the network that will be trained and freeze it, before anything else is done.

    Raises:
        UntrustedBundleError: the network is that of a foreign bundle, names code, and ``trust`` is off.
        UserError: they cover too little of it, or it has no such level.
    """
    start.require_trust(trust)
    with in_one_sentence(Path(start.spec)):
        parser = ConfigParser({"network_def": network_of_diagnosis(plan, start)})
        network = parser.get_parsed_content("network_def")
    freeze(network, strategy.frozen)
    names = dict(enumerate(plan.class_names))
    return load_pretrained(network, start.spec, minimum=strategy.minimum_share, label_names=names)


def train_diagnosis(
    split: ExamSplit,
    plan: DiagnosisPlan,
    output: str | Path,
    *,
    start: StartingPoint | None = None,
    strategy: Strategy | None = None,
    sensitivity: float | None = None,
    old: ExamDataset | None = None,
    baselines: Baselines = Baselines(),  # noqa: B008 (frozen)
    scratch_rate: float = SCRATCH_RATE_DIAGNOSIS,
    trust: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> DiagnosisTraining:
    """Train a bundle, calibrate it on the validation's examinations, score it on the held ones and report it.

    Args:
        split: the examinations.
        plan: the choices.
        output: the bundle folder to make.
        start: weights to start from; fresh ones by default.
        strategy: what is frozen, when it is freed, and what holds the weights back.
        sensitivity: share of the positives that the threshold finds; by default the Youden index decides.
        old: labelled examinations that the starting bundle knew, to report what is forgotten.
        baselines: its ``fractions`` are trained on with and without the weights, in the bundle's ``comparison``.
        scratch_rate: peak learning rate of those without.
        trust: let the network of a foreign bundle name whatever code it likes.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with a training of the same command that was cut off there.
        say: called with a sentence when the training begins.

    Raises:
        UserError: the weights do not fit, the output folder is taken, or ``old`` is given and the weights are not a
            bundle.
    """
    strategy = strategy or Strategy()
    _require_sensible(start, strategy, sensitivity, trust=trust)
    previous = start.require_bundle("--old-data") if start is not None and old is not None else None
    require_free(output, overwrite=overwrite or resume)
    configs = diagnosis_configs(
        plan,
        split.training,
        split.validation,
        definition=network_of_diagnosis(plan, start),
        strategy=strategy,
        weights="" if start is None else start.absolute,
        every_epoch=strategy.watches_validation,
    )
    bundle = BundleFolder.create(TEMPLATE, output, configs=configs, overwrite=overwrite, resume=resume)
    say(f"training: {plan.steps} steps on {plan.device}{bundle.standing}")
    bundle.run("train", "finetune", device=plan.device)
    calibrate(bundle, split.validation, device=str(plan.device), sensitivity=sensitivity)
    forgotten = None
    if old is not None and previous is not None:
        forgotten = tuple(score_exams(at, old, device=str(plan.device), trust=trust) for at in (previous, bundle.root))
    existing = Existing(overwrite=overwrite, resume=resume)
    runs = _efficiency(split, plan, start, strategy, bundle, baselines, scratch_rate, existing, say)
    return report_diagnosis(bundle, split, plan, start, strategy, forgotten, runs)


def _inherited(start: StartingPoint) -> dict[str, Any]:
    options = start.options
    found: dict[str, Any] = {"spacing": options["spacing"]} if "spacing" in options else {}
    if "size" in options:
        found["shape"] = tuple(int(length) for length in options["size"])
    return found | ({"window": options["window"]} if "window" in options else {})


def _require_sensible(
    start: StartingPoint | None, strategy: Strategy, sensitivity: float | None, *, trust: bool
) -> None:
    if strategy.dropout:
        raise UserError("--dropout is for the decoder of a segmentation: omit it with --task diagnosis.")
    if sensitivity is not None:
        checked(Sensitivity, sensitivity)
    if start is not None:
        start.require_trust(trust)


def _efficiency(
    split: ExamSplit,
    plan: DiagnosisPlan,
    start: StartingPoint | None,
    strategy: Strategy,
    bundle: BundleFolder,
    baselines: Baselines,
    scratch_rate: float,
    existing: Existing,
    say: Callable[[str], None],
) -> tuple[EfficiencyRun, ...]:
    if start is None or not baselines.fractions:
        return ()
    return diagnosis_efficiency(
        split,
        plan,
        start,
        strategy,
        bundle.root / "comparison",
        definition=network_of_diagnosis(plan, start),
        scratch_rate=scratch_rate,
        fractions=baselines.fractions,
        seeds=range(plan.seed, plan.seed + baselines.seeds),
        existing=existing,
        say=say,
    )
