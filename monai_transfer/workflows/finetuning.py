"""From pretrained weights and a labelled data set to a bundle, beside the same training from scratch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_transfer.bundle.folder import BundleFolder, require_free
from monai_transfer.bundle.plan import Plan, make_plan
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import CaseDataset, require_sound
from monai_transfer.machine import choose_device
from monai_transfer.options import Percentage, Repeats, validated
from monai_transfer.weights import LoadReport
from monai_transfer.workflows.finetuning_cases import FineTuningCases
from monai_transfer.workflows.finetuning_choice import choose_start, keep_scratch, undo_choice
from monai_transfer.workflows.finetuning_report import report_finetuning
from monai_transfer.workflows.finetuning_runs import (
    Existing,
    Run,
    Say,
    forgetting,
    label_efficiency,
    network_of,
    train_arm,
)
from monai_transfer.workflows.judging import teach_judge
from monai_transfer.workflows.starting_point import StartingPoint, merged_labels, try_weights


@validated
class Baselines:
    """What a fine-tuning is compared with; by default with nothing.

    Attributes:
        scratch: whether the same training from fresh weights runs beside it; the bundle keeps what is better, see
            :func:`~monai_transfer.workflows.finetuning_choice.choose_start`.
        fractions: shares of the training cases in percent, each trained on with and without the weights.
        seeds: trainings of each, every one with a seed of its own.

    Example:
        >>> Baselines(fractions=(10, 100), seeds=3).fractions
        (10.0, 100.0)
    """

    scratch: bool = False
    fractions: tuple[Percentage, ...] = ()
    seeds: Repeats = 1


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuning left.

    Attributes:
        bundle: the fine-tuned bundle.
        runs: every training that is compared.
        report: the content of its ``report.json``.
    """

    bundle: BundleFolder
    runs: tuple[Run, ...]
    report: dict[str, Any]

    @property
    def sentences(self) -> list[str]:
        """The result in plain words, after a table where more than one pair of trainings is compared."""
        table = self.report["table"].splitlines() if len(self.runs) > 2 else []
        return [*table, *self.report["sentences"], f"Bundle: {self.bundle.root}"]


def plan_finetuning(cases: FineTuningCases, start: StartingPoint, *, device: str = "auto", **options: Any) -> Plan:
    """Check every case and plan the training: network, working grid and labels follow the weights where they tell.

    Raises:
        UserError: for the first fault in the data, an option out of range, or labels that contradict the bundle's.
    """
    PlanOptions(device=device, **options)
    fingerprint = require_sound(cases.training, labelled=True)
    for other in {id(part): part for part in (cases.validation, cases.held) if part is not None}.values():
        require_sound(other, labelled=True)
    names = merged_labels(start, cases.training.names_for(fingerprint.label_values))
    if cases.joint is not None:
        joint = require_sound(cases.joint, labelled=True)
        names = merged_labels(replace(start, label_names=names), cases.joint.names_for(joint.label_values))
    chosen = start.options_beside(options)
    return make_plan(fingerprint, None, label_names=names, device=choose_device(device), **chosen)


def check_weights(
    start: StartingPoint, plan: Plan, strategy: Strategy, *, channels: int, trust: bool = False
) -> LoadReport:
    """Load the weights into the network that will be trained and freeze it, before anything else is done.

    Raises:
        UntrustedBundleError: the network is that of a foreign bundle, names code, and ``trust`` is off.
        UserError: they cover too little of it (the message says what the file looks like), or it has no such level.
    """
    start.require_trust(trust)
    definition = network_of(start, plan, channels=channels)
    minimum = strategy.minimum_share
    return try_weights(start, definition, label_names=plan.class_names, frozen=strategy.frozen, minimum=minimum)


def finetune(
    cases: FineTuningCases,
    plan: Plan,
    start: StartingPoint,
    strategy: Strategy,
    output: str | Path,
    *,
    baselines: Baselines | None = None,
    others: Sequence[StartingPoint] = (),
    old: CaseDataset | None = None,
    trust: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    say: Say = lambda message: None,
) -> FineTuning:
    """Fine-tune the weights, train what they are compared with, score everything and report it.

    Args:
        cases: what to learn from, watch and score.
        plan: the choices of the training.
        start: the weights.
        strategy: what is frozen, when it is freed, and what holds the weights back.
        output: the bundle folder to make; the other trainings go to its ``comparison``.
        baselines: what it is compared with.
        others: further weights to compare with on the shares of ``baselines``; the bundle starts from ``start``.
        old: labelled cases of the bundle that is fine-tuned, to report what is forgotten.
        trust: let the network of a foreign bundle name whatever code it likes.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with trainings of the same command that were cut off there.
        say: called with a sentence when a part begins.

    Raises:
        UserError: the weights do not fit, the output folder is taken, or ``old`` is given and the weights are not a
            bundle.
    """
    start.require_trust(trust)
    compared = baselines or Baselines()
    if old is not None:
        start.require_bundle("--old-data")
    require_free(output, overwrite=overwrite or resume)
    if resume:
        undo_choice(Path(output))
    # seeds that follow the first may leave the range; that is found out here, before the first training
    seeded = [replace(plan, seed=plan.seed + number) for number in range(compared.seeds)]
    every_epoch = compared.scratch or bool(compared.fractions)
    say(f"fine-tuning: {plan.steps} steps on {plan.device}")
    existing = Existing(overwrite=overwrite, resume=resume)
    tuned = train_arm("transfer", cases, plan, start, strategy, output, existing=existing, every_epoch=every_epoch)
    folder = tuned.bundle.root / "comparison"
    runs = [tuned]
    if compared.fractions:
        seeds = [one.seed for one in seeded]
        shares: dict[str, Any] = {"fractions": compared.fractions, "seeds": seeds, "others": others}
        runs = label_efficiency(cases, plan, start, strategy, folder, **shares, existing=existing, say=say)
    elif compared.scratch:
        say(f"from scratch: {plan.steps} steps on {plan.device}")
        for one in seeded:
            place = folder / f"seed_{one.seed}"
            runs.append(train_arm("scratch", cases, one, start, strategy, place, existing=existing, every_epoch=True))
    choice = None
    if compared.scratch and not compared.fractions and old is None:  # scratch knows nothing of the old cases
        choice = choose_start(runs, cases, strategy)
    kept = tuned
    if choice is not None and choice.kept == "scratch":
        keep_scratch(tuned.bundle, runs[1].bundle)
        kept = replace(runs[1], bundle=tuned.bundle)
    teach_judge(tuned.bundle, plan, source=cases.training, held=cases.held, seen=cases.training, say=say)
    forgotten = None if old is None else forgetting(tuned.bundle, start, old, device=str(plan.device), trust=trust)
    held = strategy.holding(known=start.knows(plan.label_names))
    report = report_finetuning(kept, runs, cases, plan, start, held, choice=choice, forgotten=forgotten)
    return FineTuning(tuned.bundle, tuple(runs), report)
