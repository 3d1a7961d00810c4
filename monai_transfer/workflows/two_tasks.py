"""Training one network for two tasks: a bundle that segments and names classes, scored on both at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_transfer.bundle.diagnosis_plan import Sensitivity
from monai_transfer.bundle.facts import DIAGNOSIS
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.networks import LIGHT_RESNETS
from monai_transfer.bundle.plan import Plan, make_plan
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.bundle.two_task_configs import fine_enough, two_task_configs, whole_images
from monai_transfer.datasets import TwoTaskDataset, read_two_tasks, require_sound, require_sound_exams
from monai_transfer.errors import UserError
from monai_transfer.evaluation import ScoreTable
from monai_transfer.evaluation.diagnosis_scores import DiagnosisScores
from monai_transfer.figures.diagnosis_report import diagnosis_headline, diagnosis_warnings, write_diagnosis_report
from monai_transfer.figures.report import write_evaluation_report
from monai_transfer.files import write_record
from monai_transfer.inference.diagnoser import Diagnoser
from monai_transfer.machine import choose_device, hardware, versions
from monai_transfer.options import checked
from monai_transfer.volumes.volume import Reading
from monai_transfer.weights.catalogue import CATALOGUE
from monai_transfer.workflows.adaptation import start_of_adaptation
from monai_transfer.workflows.cards import write_model_card
from monai_transfer.workflows.diagnosis_scoring import Answers, ask, calibrate
from monai_transfer.workflows.exam_split import SHARE
from monai_transfer.workflows.last_layer import refit_last_layer
from monai_transfer.workflows.scoring import overlay_cases, score_bundle

_SHAPES = {entry.network: entry.name for entry in CATALOGUE if entry.packaged and entry.network in LIGHT_RESNETS}
"""What a U-Net around a light ResNet starts from, as the light U-Net starts from its own weights of shapes."""

DEFAULT_STEPS_OF_BOTH = 1200
"""On a CPU; every step sees whole images, which takes longer than windows of them. After 600, a lesion is found and not
outlined: on phantoms a tenth of its voxels were drawn."""


@dataclass(frozen=True)
class TwoTaskSplit:
    """Cases of different patients.

    Attributes:
        training: to learn from.
        validation: to watch; temperature and thresholds are chosen on them.
        held: of the final scores.
    """

    training: TwoTaskDataset
    validation: TwoTaskDataset
    held: TwoTaskDataset


@dataclass(frozen=True)
class TwoTaskTraining:
    """What a training of both tasks left.

    Attributes:
        bundle: the trained bundle.
        table: overlap of the label maps of the held cases; None where none of them has one.
        scores: of the diagnoses of the held cases.
        report: the content of its ``report.json``.
    """

    bundle: BundleFolder
    table: ScoreTable | None
    scores: DiagnosisScores
    report: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        return [*self.report["sentences"], f"Report: {self.bundle.root / 'report.html'}"]


def choose_two_tasks(
    data: str | Path,
    *,
    seed: int = 0,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> TwoTaskSplit:
    """Split the cases of a data set by patient and class.

    Raises:
        UserError: there are no label maps, no diagnoses, or too few patients.
    """
    rest, held = read_two_tasks(data, reading=reading).split(SHARE, seed=seed)
    training, validation = rest.split(SHARE, seed=seed)
    if not len(training.mapped) or not training.exams.labelled.exams:
        raise UserError(f"{data} leaves one of the tasks nothing to learn from: add label maps and diagnoses.")
    return TwoTaskSplit(training, validation, held)


def plan_two_tasks(split: TwoTaskSplit, *, device: str = "auto", **options: Any) -> Plan:
    """Check every case and plan the training, on a grid that is fine enough for the smallest label.

    Raises:
        UserError: for the first fault in the data, or an option out of range.
    """
    given = PlanOptions(device=device, **options).given
    chosen = choose_device(device)
    fingerprint = require_sound(split.training.cases, labelled=True)
    for part in (split.validation, split.held):
        require_sound(part.cases, labelled=False)
        require_sound_exams(part.exams)
    names = split.training.cases.names_for(fingerprint.label_values)
    steps = DEFAULT_STEPS_OF_BOTH if chosen.type == "cpu" else None
    given = {name: value for name, value in given.items() if name != "device"}
    plan = make_plan(fingerprint, None, label_names=names, device=chosen, **{"steps": steps, **given})
    if "spacing" not in given:
        plan = plan.with_options(spacing=tuple(fine_enough(step, fingerprint) for step in plan.spacing))
    channels, network = len(split.training.cases.channel_names), given.get("network")
    spec = _SHAPES.get(str(network)) if channels == 1 else None
    start, _ = start_of_adaptation(spec, network=network, channels=channels)
    return whole_images(plan, fingerprint).with_options(weights=None if start is None else start.absolute)


def train_two_tasks(
    split: TwoTaskSplit,
    plan: Plan,
    output: str | Path,
    *,
    weights: Sequence[float] | None = None,
    sensitivity: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> TwoTaskTraining:
    """Train a bundle on both tasks, calibrate its diagnosis, score both on the held cases and report them.

    Args:
        split: the cases.
        plan: the choices.
        output: the bundle folder to make.
        weights: of segmentation and diagnosis in the loss; learnt from their uncertainty where None.
        sensitivity: share of the positives that the threshold finds; by default the Youden index decides.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with a training of the same command that was cut off there.
        say: called with a sentence when the training begins.

    Raises:
        UserError: the output folder is taken, or training fails for a reason that the user can mend.
    """
    if sensitivity is not None:
        checked(Sensitivity, sensitivity)
    configs = two_task_configs(plan, split.training, split.validation, weights=weights)
    bundle = BundleFolder.create("segmentation_transfer", output, configs=configs, overwrite=overwrite, resume=resume)
    say(f"training: {plan.steps} steps on {plan.device}{bundle.standing}")
    bundle.run("train", device=plan.device)
    file = bundle.root / "models" / f"{DIAGNOSIS}.pt"
    refit_last_layer(bundle, split.validation.exams, file=file, device=str(plan.device))
    calibrate(bundle, split.validation.exams, device=str(plan.device), sensitivity=sensitivity)
    answers = ask(Diagnoser.from_bundle(bundle.root, device=str(plan.device)), split.held.exams)
    table = score_bundle(bundle, split.held.cases, device=str(plan.device)) if len(split.held.mapped) else None
    return _report(bundle, split, plan, answers, table, weights)


def _report(
    bundle: BundleFolder,
    split: TwoTaskSplit,
    plan: Plan,
    answers: Answers,
    table: ScoreTable | None,
    weights: Sequence[float] | None,
) -> TwoTaskTraining:
    scores = answers.scores()
    dice = f"Mean Dice {table.mean('dice'):.3f} on {len(table.cases)} held case(s)." if table else "No held label map."
    sentences = [dice, diagnosis_headline(scores), *diagnosis_warnings(scores)]
    counts = {name: getattr(split, name) for name in ("training", "validation", "held")}
    run = {
        "data": f"{split.training.cases.root}: "
        + ", ".join(f"{len(part)} {name} ({len(part.mapped)} with label maps)" for name, part in counts.items()),
        "network": f"{plan.network}, two heads",
        "start": plan.weights or "fresh weights",
        "working grid": " × ".join(f"{step:g}" for step in plan.spacing) + " mm",
        "training": f"{plan.steps} steps of {plan.batch_size} whole image(s), seed {plan.seed}",
        "weights of the tasks": "learnt" if weights is None else ", ".join(f"{weight:g}" for weight in weights),
    }
    facts = {"hardware": hardware(), "versions": versions()}
    page = {"probabilities": answers.probabilities, "targets": answers.targets, "run": {**run, **facts}}
    write_diagnosis_report(bundle.root / "diagnosis.html", scores, **page)  # type: ignore[arg-type]
    if table is not None:
        overlays = overlay_cases(split.held.cases, {"both": bundle}, {"both": table}, order_by="both")
        write_evaluation_report(bundle.root / "report.html", table, overlays=overlays, run=run, title="Two tasks")
    report = {
        "sentences": sentences,
        "dice": table.figures() if table is not None else None,
        "diagnosis": scores.as_dict(),
        "run": run,
        **facts,
    }
    write_record(bundle.root / "report.json", report)
    tables = {} if table is None else {"both tasks": table}
    write_model_card(bundle, title="Labels and diagnosis", plan=plan, sentences=sentences, scores=tables, run=run)
    return TwoTaskTraining(bundle, table, scores, report)
