"""From a labelled data set to a bundle that segments it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.bundle.configs import supervised_configs
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan, make_plan
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.datasets import CaseDataset, read_dataset, require_sound
from monai_transfer.errors import UserError
from monai_transfer.evaluation import ScoreTable
from monai_transfer.figures.report import write_evaluation_report
from monai_transfer.machine import choose_device
from monai_transfer.transforms.presets import Augmentation
from monai_transfer.volumes.volume import Reading
from monai_transfer.workflows.cards import write_model_card
from monai_transfer.workflows.judging import teach_judge
from monai_transfer.workflows.scoring import overlay_cases, score_bundle

VALIDATION_SHARE = 0.2


if TYPE_CHECKING:
    from monai_transfer.bundle.pacing import Pace


@dataclass(frozen=True)
class LabelledSplit:
    """The cases of one supervised training.

    Attributes:
        training: labelled cases to learn from.
        held: labelled cases that are only scored; ``None`` when there are too few cases to set one aside.
    """

    training: CaseDataset
    held: CaseDataset | None


@dataclass(frozen=True)
class Training:
    """What a training left.

    Attributes:
        bundle: the trained bundle.
        split: its cases.
        plan: its choices.
        table: scores on the held cases, ``None`` without any.
    """

    bundle: BundleFolder
    split: LabelledSplit
    plan: Plan
    table: ScoreTable | None = None

    @property
    def sentences(self) -> list[str]:
        """The result in plain words."""
        if self.table is None:
            return ["Not scored: too few cases.", f"Bundle: {self.bundle.root}"]
        dice = f"Mean Dice {self.table.mean('dice'):.3f} on {len(self.table.cases)} held case(s)."
        return [dice, f"Report: {self.bundle.root / 'report.html'}"]

    def as_report(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {"bundle": str(self.bundle.root), "scores": self.table.figures() if self.table is not None else None}


def choose_cases(
    data: str | Path,
    cases: Sequence[str] = (),
    *,
    fold: int | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> LabelledSplit:
    """The labelled cases, some of them held out: a fold where a datalist names folds, else the last fifth of the names.

    Args:
        data: the data set.
        cases: names or patterns; all by default.
        fold: which one to hold out; the first by default.
        reading: how strictly the files are read.

    Raises:
        UserError: when there is no labelled case, or no such fold.
    """
    labelled = read_dataset(data, reading=reading).select(cases or ["*"]).labelled
    if not labelled.cases:
        raise UserError(f"{data} has no labelled cases: put label maps into labels/ under the images' names.")
    if fold is not None or labelled.folds:
        return LabelledSplit(*labelled.split_fold(labelled.folds[0] if fold is None else fold))
    if len(labelled) < 3:
        return LabelledSplit(labelled, None)
    return LabelledSplit(*labelled.split(VALIDATION_SHARE))


def plan_training(split: LabelledSplit, *, device: str = "auto", pace: "Pace | None" = None, **options: Any) -> Plan:
    """Check every case and plan the training.

    Args:
        split: the cases.
        device: where to train.
        pace: the time that the training may take, which decides grid and steps.
        options: fields of :class:`~monai_transfer.bundle.request.PlanOptions`.

    Raises:
        UserError: for the first fault in the data set, or an option out of range.
    """
    PlanOptions(device=device, **options)
    fingerprint = require_sound(split.training, labelled=True)
    if split.held is not None:
        require_sound(split.held, labelled=True)
    names = split.training.names_for(fingerprint.label_values)
    return make_plan(fingerprint, None, label_names=names, device=choose_device(device), pace=pace, **options)


def prepare_bundle(
    split: LabelledSplit,
    plan: Plan,
    output: str | Path,
    *,
    augmentation: Augmentation = "standard",
    overwrite: bool = False,
    resume: bool = False,
) -> BundleFolder:
    """A copy of ``segmentation_transfer`` that is ready to train on these cases, or to go on with that."""
    configs = supervised_configs(plan, split.training, split.held, augmentation=augmentation)
    return BundleFolder.create("segmentation_transfer", output, configs=configs, overwrite=overwrite, resume=resume)


def train(
    split: LabelledSplit,
    plan: Plan,
    output: str | Path,
    *,
    augmentation: Augmentation = "standard",
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Training:
    """Train a bundle on labelled cases, score it on the held ones, and write its report and model card.

    Args:
        split: the cases.
        plan: the choices.
        output: the bundle folder to make.
        augmentation: of the images' appearance; ``modality`` teaches networks that other contrasts are to come.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with a training of the same command that was cut off there.
        say: called with a sentence when the training begins.

    Raises:
        UserError: when the output folder is taken or training fails for a reason that the user can mend.
    """
    bundle = prepare_bundle(split, plan, output, augmentation=augmentation, overwrite=overwrite, resume=resume)
    say(f"training: {plan.steps} steps on {plan.device}{bundle.standing}")
    bundle.run("train", device=plan.device)
    teach_judge(bundle, plan, source=split.training, held=split.held, seen=split.training, say=say)
    return Training(bundle, split, plan, report_training(bundle, split, plan))


def report_training(bundle: BundleFolder, split: LabelledSplit, plan: Plan) -> ScoreTable | None:
    """Score the held cases and write ``report.html`` and the model card; ``None`` without held cases."""
    run = {
        "data": f"{split.training.root}, {len(split.training)} cases: {', '.join(split.training.names)}",
        "held cases": ", ".join(split.held.names) if split.held is not None else "none",
        "network": plan.network,
        "working grid": " × ".join(f"{step:g}" for step in plan.spacing) + " mm",
        "training": f"{plan.steps} steps of {plan.batch_size} case(s), seed {plan.seed}",
    }
    title = f"Segmentation of {plan.source_modality.upper()}"
    if split.held is None:
        write_model_card(bundle, title=title, plan=plan, sentences=["Not scored: too few cases."], scores={}, run=run)
        return None
    table = score_bundle(bundle, split.held, device=str(plan.device))
    overlays = overlay_cases(split.held, {"prediction": bundle}, {"prediction": table}, order_by="prediction")
    write_evaluation_report(bundle.root / "report.html", table, overlays=overlays, run=run, title=title)
    sentence = f"Mean Dice {table.mean('dice'):.3f} on {len(split.held)} held cases."
    write_model_card(bundle, title=title, plan=plan, sentences=[sentence], scores={"trained": table}, run=run)
    return table
