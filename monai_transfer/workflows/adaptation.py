"""From a labelled source and an unlabelled target to a bundle for the target, beside its floor and its ceiling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.bundle.arms import ORACLE, SOURCE_ONLY, Arm, method_names
from monai_transfer.bundle.configs import make_arm, split_source
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains, choose_domains, plan_adaptation
from monai_transfer.evaluation import AdaptationSummary, CheckpointChoice, Choice, ScoreTable
from monai_transfer.machine import hardware, versions
from monai_transfer.workflows.checkpoints import (
    choose_trained,
    record_choice,
    recorded_choice,
    remove_checkpoints,
    score_checkpoints,
)
from monai_transfer.workflows.choice import LabelFreeScorer, choose_weights, keep_source_only
from monai_transfer.workflows.judging import teach_judge
from monai_transfer.workflows.scoring import score_bundle
from monai_transfer.workflows.starting_point import StartingPoint

if TYPE_CHECKING:
    from monai_transfer.bundle.pacing import Pace

__all__ = ["ARMS", "Adaptation", "Domains", "Say", "adapt", "choose_domains", "plan_adaptation", "plan_from"]

ARMS = ("adapted", "source_only", "oracle")
"""What is trained, in this order: an interrupted run has the adapted weights first."""

Say = Callable[[str], None]


@dataclass
class Adaptation:
    """What an adaptation left: the bundle, its comparison arms and their scores.

    Attributes:
        bundle: the adapted bundle.
        arms: arm -> its bundle; ``adapted`` is ``bundle``.
        domains: the cases.
        plan: the choices.
        scores: arm -> scores on the test cases; empty without test labels.
        choice: which weights the bundle keeps, judged without target labels; ``None`` when it was not asked to choose.
        checkpoint: which checkpoint of the adapted network that is; ``None`` likewise.
    """

    bundle: BundleFolder
    arms: dict[str, BundleFolder]
    domains: Domains
    plan: Plan
    scores: dict[str, ScoreTable] = field(default_factory=dict)
    choice: Choice | None = None
    checkpoint: CheckpointChoice | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """What the adapted network learnt by, by name."""
        return method_names(self.bundle.read("train"))

    @property
    def summary(self) -> AdaptationSummary:
        """The scores side by side."""
        labelled = self.domains.labelled_target
        return AdaptationSummary(
            source_only=self.scores.get("source_only"),
            adapted=self.scores.get("adapted"),
            oracle=self.scores.get("oracle"),
            seeds=(self.plan.seed,),
            choice=self.choice,
            checkpoint=self.checkpoint,
            labelled_target=() if labelled is None else labelled.names,
            start=self.plan.weights,
            hardware=hardware(),
            versions=versions(),
        )


def plan_from(
    domains: Domains, start: StartingPoint | None, *, device: str = "auto", pace: "Pace | None" = None, **options: Any
) -> Plan:
    """Plan an adaptation all of whose arms start from the same weights, and see that these fit.

    Args:
        domains: the cases.
        start: the weights; ``None`` for fresh ones.
        device: where to train.
        pace: the time that all arms together may take.
        options: as :func:`plan_adaptation` takes them.

    Raises:
        UserError: for the first fault in any data set, an option out of range, or weights that do not fit.
    """
    make = partial(plan_adaptation, domains, device=device, pace=pace)
    channels = len(domains.source.channel_names)
    return make(**options) if start is None else start.plan(make, options, channels=channels)


def adapt(
    domains: Domains,
    plan: Plan,
    output: str | Path,
    *,
    methods: Sequence[dict[str, Any]] | None = None,
    oracle: bool = True,
    choose: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    say: Say = lambda message: None,
) -> Adaptation:
    """Train the adapted network and what it is compared with, and score them on the test cases.

    Args:
        domains: the cases.
        plan: the choices.
        output: the bundle folder to make.
        methods: definitions of adaptation methods, in place of the bundle's own.
        oracle: whether to train the ceiling where target labels allow it.
        choose: whether to judge without labels which checkpoint of the adapted network is used, and to give the bundle
            source-only's weights where the adapted network looks worse; the scores of the arm ``adapted`` are those of
            the adapted network all the same.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with trainings of the same command that were cut off there.
        say: called with a sentence when a part begins.

    Raises:
        UserError: when the output folder is taken or training fails for a reason that the user can mend.
        Interrupted: when a training was interrupted; its checkpoint is in place.
    """
    recipe = Arm("adapted", None if methods is None else tuple(methods))
    bundle = make_arm(domains, plan, output, recipe, overwrite=overwrite, resume=resume, keep_checkpoints=choose)
    arms = {"adapted": bundle}
    result = Adaptation(bundle, arms, domains, plan)
    wanted = [arm for arm in ARMS if arm != "oracle" or (oracle and domains.has_oracle)]
    scorer: LabelFreeScorer | None = None
    for number, arm in enumerate(wanted, start=1):
        title = arm.replace("_", "-")
        if arm != "adapted":
            compared, root = (ORACLE if arm == "oracle" else SOURCE_ONLY), bundle.root / "comparison" / arm
            arms[arm] = make_arm(domains, plan, root, compared, overwrite=overwrite, resume=resume, title=title)
        say(f"{number}/{len(wanted)} {title}: {plan.steps} steps on {plan.device}{arms[arm].standing}")
        arms[arm].run("train", device=plan.device)
        if arm == "adapted" and choose:
            scorer = LabelFreeScorer(bundle, plan, domains.source, domains.target)
            _choose_checkpoint(result, scorer, resume=resume)
        elif domains.test is not None:
            result.scores[arm] = score_bundle(arms[arm], domains.test, device=str(plan.device))
    if scorer is not None:
        result.choice = choose_weights(bundle, arms["source_only"], scorer)
        if result.choice.kept == "source_only":
            keep_source_only(bundle, arms["source_only"])
    held = split_source(domains.source)[1] if len(domains.source) > 2 else None
    teach_judge(bundle, plan, source=domains.source, held=held, seen=domains.target, say=say)
    return result


def _choose_checkpoint(result: Adaptation, scorer: LabelFreeScorer, *, resume: bool = False) -> None:
    """Give the bundle the checkpoint that looks best without labels, and score all of them where there are some."""
    bundle, domains = result.bundle, result.domains
    done = recorded_choice(bundle) if resume else None
    if done is None:
        choice, table = choose_trained(bundle, scorer, result.plan), None
        if domains.test is not None:
            choice, table = score_checkpoints(bundle, choice, domains.test, result.plan)
        record_choice(bundle, choice, table)
        done = choice, table
    result.checkpoint, scores = done
    if scores is not None:
        result.scores["adapted"] = scores
    remove_checkpoints(bundle, result.plan)
