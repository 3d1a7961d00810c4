"""The trainings of a fine-tuning: from the weights and from scratch, on all cases or on growing shares of them."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from monai_transfer.bundle.configs import finetuning_configs
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import CaseDataset, require_sound
from monai_transfer.engines import read_history
from monai_transfer.evaluation import ScoreTable, score_folder
from monai_transfer.options import Percentage, checked
from monai_transfer.workflows.evaluation import Predictions
from monai_transfer.workflows.finetuning_cases import FineTuningCases
from monai_transfer.workflows.scoring import score_bundle
from monai_transfer.workflows.starting_point import StartingPoint

Arm = Literal["transfer", "scratch"]
Say = Callable[[str], None]

SCORE = "val_mean_dice"
LOSS = "source/supervised"


@dataclass
class Run:
    """One training of one arm.

    Attributes:
        arm: ``transfer`` or ``scratch``.
        cases: number of training cases.
        seed: its seed.
        bundle: what it made.
        table: scores on the held cases.
        curve: step and validation Dice.
        weights: SPEC of what it started from; empty from scratch.
        loss: mean loss of the training cases in the last epoch.
    """

    arm: Arm
    cases: int
    seed: int
    bundle: BundleFolder
    table: ScoreTable | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    weights: str = ""
    loss: float | None = None

    @property
    def dice(self) -> float | None:
        """Mean Dice on the held cases."""
        return None if self.table is None else self.table.mean("dice")


@dataclass(frozen=True)
class Existing:
    """What becomes of what is in the folders of the trainings already.

    Attributes:
        overwrite: it may be replaced.
        resume: trainings of the same command that were cut off are gone on with.
    """

    overwrite: bool = False
    resume: bool = False


def network_of(start: StartingPoint, plan: Plan, *, channels: int) -> dict[str, Any]:
    """The network's definition: that of the starting bundle with the new classes, or the plan's."""
    definition = dict(start.definition or network_definition(plan.network, classes=plan.classes))
    return {**definition, "in_channels": channels, "out_channels": plan.classes}


def train_arm(
    arm: Arm,
    cases: FineTuningCases,
    plan: Plan,
    start: StartingPoint,
    strategy: Strategy,
    output: str | Path,
    *,
    existing: Existing = Existing(),
    every_epoch: bool = False,
) -> Run:
    """Train one arm and score it on the held cases.

    Args:
        arm: ``transfer`` starts from the weights and follows the strategy; ``scratch`` has fresh weights, nothing
            frozen, and the same peak learning rate and number of steps.
        cases: what to learn from, watch and score.
        plan: the choices of the training.
        start: the weights.
        strategy: of the transfer arm.
        output: bundle folder to make.
        existing: what becomes of what is in the folder already.
        every_epoch: validate after each epoch, for a finer curve.

    Raises:
        UserError: the weights do not fit, or the output folder is taken.
        Interrupted: training was interrupted; its checkpoint is in place.
    """
    transfer = arm == "transfer"
    held = strategy.holding(known=start.knows(plan.label_names))
    joint = cases.joint
    configs = finetuning_configs(
        plan,
        cases.training,
        definition=network_of(start, plan, channels=len(cases.training.channel_names)),
        strategy=held if transfer else Strategy(minimum_share=strategy.minimum_share),
        weights=start.absolute if transfer else "",
        learning_rate=plan.learning_rate,
        validation=cases.validation,
        joint=joint,
        joint_modality="" if joint is None else require_sound(joint, labelled=True).modality,
        joint_weight=cases.joint_weight,
        every_epoch=every_epoch or strategy.watches_validation,
    )
    bundle = BundleFolder.create(
        "segmentation_transfer", output, configs=configs, overwrite=existing.overwrite, resume=existing.resume
    )
    bundle.run("train", "finetune", device=plan.device)
    lines = read_history(bundle.root / "eval" / "history.jsonl")
    run = Run(arm, len(cases.training), plan.seed, bundle, weights=start.spec if transfer else "")
    run.curve = [(int(line["step"]), float(line["metrics"][SCORE])) for line in lines if SCORE in line["metrics"]]
    run.loss = float(lines[-1]["losses"][LOSS]) if lines else None
    if cases.held is not None:
        run.table = score_bundle(bundle, cases.held, device=str(plan.device))
    return run


def label_efficiency(
    cases: FineTuningCases,
    plan: Plan,
    start: StartingPoint,
    strategy: Strategy,
    output: str | Path,
    *,
    fractions: Sequence[float],
    seeds: Sequence[int],
    others: Sequence[StartingPoint] = (),
    existing: Existing = Existing(),
    say: Say = lambda message: None,
) -> list[Run]:
    """Train on growing shares of the subjects, with and without the weights, for the same number of steps.

    Each seed draws its own order of the subjects; a larger share holds the smaller ones. All starts see the same.

    Args:
        cases: what to learn from, watch and score.
        plan: the choices of every training.
        start: the weights.
        strategy: of the transfer arms.
        output: folder that gets a bundle per training.
        fractions: shares in percent; each takes at least one subject.
        seeds: seeds of the order of subjects and of the training.
        others: further weights, fine-tuned in the same way.
        existing: what becomes of what is in the folders already.
        say: called with a sentence before each training.
    """
    counts = share_counts(fractions, len(cases.training))
    arms: list[tuple[str, Arm, StartingPoint]] = [("transfer", "transfer", start)]
    arms += [(arm_folder(number, other), "transfer", other) for number, other in enumerate(others, start=2)]
    arms.append(("scratch", "scratch", start))
    runs = []
    for seed in seeds:
        order = list(cases.training.names)
        random.Random(seed).shuffle(order)
        own = replace(plan, seed=seed)
        for count in counts:
            part = cases.only(order[:count])
            for name, arm, point in arms:
                origin = "from scratch" if arm == "scratch" else f"from {point.spec}"
                say(f"{origin}, {count} case(s), seed {seed}: {plan.steps} steps")
                folder = Path(output) / f"{count}_cases" / f"seed_{seed}" / name
                runs.append(train_arm(arm, part, own, point, strategy, folder, existing=existing, every_epoch=True))
    return runs


def arm_folder(number: int, start: StartingPoint) -> str:
    """Name of the folder of further weights.

    Example:
        >>> arm_folder(2, StartingPoint("shapes:unet", None))
        '2_shapes_unet'
    """
    return f"{number}_" + re.sub(r"[^A-Za-z0-9]+", "_", start.spec).strip("_")[-40:].strip("_")


def share_counts(fractions: Sequence[float], cases: int) -> list[int]:
    """Percent of ``cases`` as numbers of subjects, at least one, each once, in rising order.

    Raises:
        UserError: a share is not in (0, 100].
    """
    return sorted({max(1, round(checked(Percentage, share) / 100 * cases)) for share in fractions})


def forgetting(
    bundle: BundleFolder, start: StartingPoint, old: CaseDataset, *, device: str, trust: bool = False
) -> tuple[ScoreTable, ScoreTable]:
    """Score the old cases with the bundle that was fine-tuned, before and after.

    Raises:
        UserError: the weights are not a bundle, or the old cases cannot be scored.
    """
    tables = []
    for name, folder in (("before", start.require_bundle("--old-data")), ("after", bundle.root)):
        output = bundle.root / "eval" / "old_cases" / name
        found = Predictions.by_bundle(folder, old, output, device=device, trust=trust)
        tables.append(score_folder(found.where, old, label_names=found.label_names))
    return tables[0], tables[1]
