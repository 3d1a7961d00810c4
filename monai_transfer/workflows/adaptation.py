"""From a labelled source and an unlabelled target to a bundle for the target, beside its floor and its ceiling."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from monai_transfer.bundle.arms import ORACLE, SOURCE_ONLY, Arm, method_names
from monai_transfer.bundle.configs import make_arm
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.networks import WITH_STRUCTURE
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains, choose_domains, held_source, plan_adaptation
from monai_transfer.evaluation import AdaptationSummary, CheckpointChoice, Choice, ScoreTable
from monai_transfer.evaluation.case_judge import CaseJudge, read_judge
from monai_transfer.machine import hardware, versions
from monai_transfer.workflows.checkpoints import settle_checkpoint
from monai_transfer.workflows.choice import (
    TARGET_VOLUMES,
    LabelFreeScorer,
    choose_weights,
    keep_source_only,
    prefer_estimated,
)
from monai_transfer.workflows.judging import estimated_dice, teach_judge
from monai_transfer.workflows.scoring import score_bundle
from monai_transfer.workflows.starting_point import StartingPoint, read_starting_point

if TYPE_CHECKING:
    from monai_transfer.bundle.pacing import Pace

__all__ = ["ARMS", "Adaptation", "Domains", "Say", "adapt", "choose_domains", "plan_adaptation", "plan_from"]

ARMS = ("adapted", "source_only", "oracle")
"""What is trained, in this order: an interrupted run has the adapted weights first."""

Say = Callable[[str], None]

_SHAPES, _FRESH = "shapes:unet", "none"
"""Weights that come with the package, and what is given in place of a SPEC for fresh ones."""

_LIGHT = (None, "unet")
"""What weights of a light U-Net are called: many files do not tell."""


@dataclass(frozen=True)
class ArmTraining:
    """The training of a bundle that is compared.

    Attributes:
        bundle: as :func:`~monai_transfer.bundle.configs.make_arm` gives it.
        plan: the choices.
        title: of the arm, in a sentence.
        teach: gives the trained bundle its judge, where it needs one for the comparison; here, for beside another
            training that costs no time.
    """

    bundle: BundleFolder
    plan: Plan
    title: str
    teach: Callable[[BundleFolder], CaseJudge | None] | None = None

    @property
    def folder(self) -> Path:
        """Of the bundle."""
        return self.bundle.root

    def finished(self) -> BundleFolder | None:
        """The bundle, where it is trained."""
        return self.bundle if self.bundle.finished else None

    def train(self, say: Say = lambda message: None) -> BundleFolder:
        """Train it in this process."""
        say(f"{self.title}: {self.plan.steps} steps on {self.plan.device}{self.bundle.standing}")
        self.bundle.run("train", device=self.plan.device)
        if self.teach is not None and read_judge(self.folder) is None:
            self.teach(self.bundle)
        return self.bundle


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


def start_of_adaptation(
    spec: str | None, *, network: str | None, channels: int
) -> tuple[StartingPoint | None, str | None]:
    """What every network of an adaptation starts from, and which network that is where nothing else says it.

    The package's weights know shapes in random contrasts, and no modality (docs/pretraining.md). The usual network is a
    light U-Net that sees structure beside the image (docs/parts.md); weights of a light U-Net are for it too.

    Args:
        spec: as given; ``"none"`` for fresh weights, ``None`` for the packaged ones where they fit.
        network: as given.
        channels: of the images; the usual network was measured on one.

    Raises:
        UserError: the weights cannot be had.
    """
    if spec is None and network in (*_LIGHT, WITH_STRUCTURE) and channels == 1:
        spec = _SHAPES
    start = None if spec in (None, _FRESH) else read_starting_point(spec)
    light = start is None or (start.definition is None and start.network in _LIGHT)
    return start, WITH_STRUCTURE if network is None and light and channels == 1 else network


def plan_from(
    domains: Domains, weights: str | None = None, *, device: str = "auto", pace: "Pace | None" = None, **options: Any
) -> Plan:
    """Plan an adaptation all of whose arms start from the same weights, and see that these fit.

    Args:
        domains: the cases.
        weights: as for :func:`start_of_adaptation`.
        device: where to train.
        pace: the time that all arms together may take.
        options: as :func:`plan_adaptation` takes them.

    Raises:
        UserError: for the first fault in any data set, an option out of range, or weights that do not fit.
    """
    make = partial(plan_adaptation, domains, device=device, pace=pace)
    channels = len(domains.source.channel_names)
    start, options["network"] = start_of_adaptation(weights, network=options.get("network"), channels=channels)
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
    jobs: int = 1,
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
        jobs: trainings at once; beside the adapted network, which this process trains, the others are trained in
            processes of their own, and all share this one's threads. A script that asks for more than one starts them
            under ``if __name__ == "__main__":``, as :mod:`multiprocessing` demands.
        say: called with a sentence when a part begins.

    Raises:
        UserError: when the output folder is taken or training fails for a reason that the user can mend.
        Interrupted: when a training was interrupted; its checkpoint is in place.
    """
    recipe = Arm("adapted", None if methods is None else tuple(methods))
    make = partial(make_arm, domains, plan, overwrite=overwrite, resume=resume)
    bundle = make(output, recipe, keep_checkpoints=choose)
    result = Adaptation(bundle, {"adapted": bundle}, domains, plan)
    runs = _compared(result, make, oracle=oracle and domains.has_oracle, choose=choose)
    scorer: LabelFreeScorer | None = None
    with _begun(list(runs.values()), jobs, say) as train:
        for arm, run in runs.items():
            train(run, say)
            if arm == "adapted" and choose:
                scorer = LabelFreeScorer(bundle, plan, domains.source, domains.target)
                result.checkpoint, scores = settle_checkpoint(bundle, scorer, plan, domains.test, resume=resume)
                if scores is not None:
                    result.scores[arm] = scores
            elif domains.test is not None:
                result.scores[arm] = score_bundle(result.arms[arm], domains.test, device=str(plan.device))
    _judge(result, scorer, say)
    return result


def _judge(result: Adaptation, scorer: LabelFreeScorer | None, say: Say) -> None:
    """Let the bundle learn to judge its results, and choose between its weights and source-only's if that is asked."""
    bundle, floor, plan = result.bundle, result.arms["source_only"], result.plan
    if scorer is not None:
        result.choice = choose_weights(bundle, floor, scorer)
    if result.choice is None or result.choice.kept == "adapted":
        judge = _teacher(result, plan)(bundle, say=say)
        if judge is None or result.choice is None:
            return
        judged = [(bundle, judge), (floor, read_judge(floor.root))]
        estimates = [estimated_dice(*each, plan, result.domains.target, most=TARGET_VOLUMES) for each in judged]
        result.choice = prefer_estimated(result.choice, *estimates)
    if result.choice.kept == "source_only":
        keep_source_only(bundle, floor)
        _teacher(result, SOURCE_ONLY.planned(plan))(bundle, say=say)


def _teacher(result: Adaptation, plan: Plan) -> Callable[..., CaseJudge | None]:
    """What gives a bundle of a plan its judge."""
    source = result.domains.source
    return partial(teach_judge, plan=plan, source=source, held=held_source(source), seen=result.domains.target)


def _compared(
    result: Adaptation, make: Callable[..., BundleFolder], *, oracle: bool, choose: bool
) -> dict[str, ArmTraining]:
    """Make the bundles that the adapted one is compared with, and give the training of each arm."""
    wanted = [arm for arm in ARMS if arm != "oracle" or oracle]
    titles = {arm: arm.replace("_", "-") for arm in wanted}
    for arm in wanted[1:]:
        recipe, root = (ORACLE if arm == "oracle" else SOURCE_ONLY), result.bundle.root / "comparison" / arm
        result.arms[arm] = make(root, recipe, title=titles[arm])
    floor = partial(_teacher(result, SOURCE_ONLY.planned(result.plan)), compared=True)
    judged = {"source_only": floor} if choose else {}
    return {
        arm: ArmTraining(result.arms[arm], result.plan, f"{number}/{len(wanted)} {titles[arm]}", judged.get(arm))
        for number, arm in enumerate(wanted, start=1)
    }


@contextmanager
def _begun(runs: Sequence[ArmTraining], jobs: int, say: Say) -> Iterator[Callable[[ArmTraining, Say], BundleFolder]]:
    """Give what trains the first run here, and the others when they are asked for, or has begun them beside it."""
    if jobs == 1 or len(runs) == 1:
        yield lambda run, say: run.train(say)
        return
    from monai_transfer.workflows.side_by_side import side_by_side

    main, *others = runs
    threads = torch.get_num_threads()
    share = max(1, threads // min(jobs, len(runs)))
    torch.set_num_threads(share)
    try:
        beside = [run for run in others if run.finished() is None]
        with side_by_side(beside, jobs - 1, threads=share) as wait:
            for run in beside:
                say(f"{run.title}: beside the adapted network{run.bundle.standing}")
            yield lambda run, say: wait(run, say) if run in beside else run.train(say)
    except BaseException:
        if not (main.folder / "configs").is_dir():  # it refused to begin and is gone: so is what was beside it
            shutil.rmtree(main.folder, ignore_errors=True)
        raise
    finally:
        torch.set_num_threads(threads)
