"""How many examinations pretrained weights save: trainings on growing shares of them, with and without the weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_transfer.bundle.diagnosis_configs import TEMPLATE, diagnosis_configs
from monai_transfer.bundle.diagnosis_plan import DiagnosisPlan
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import ExamDataset
from monai_transfer.options import Percentage, checked
from monai_transfer.workflows.diagnosis_scoring import score_exams
from monai_transfer.workflows.exam_split import ExamSplit
from monai_transfer.workflows.finetuning_runs import Arm, Existing
from monai_transfer.workflows.starting_point import StartingPoint


@dataclass(frozen=True)
class EfficiencyRun:
    """One training of the curve.

    Attributes:
        arm: ``transfer`` or ``scratch``.
        exams: number of examinations that it learnt from.
        seed: of the training, and of the order in which patients are drawn.
        auc: on the held examinations.
    """

    arm: Arm
    exams: int
    seed: int
    auc: float


def diagnosis_efficiency(
    split: ExamSplit,
    plan: DiagnosisPlan,
    start: StartingPoint,
    strategy: Strategy,
    output: Path,
    *,
    definition: Mapping[str, Any],
    scratch_rate: float,
    fractions: Sequence[float],
    seeds: Sequence[int],
    existing: Existing = Existing(),  # noqa: B008 (frozen)
    say: Callable[[str], None] = lambda message: None,
) -> tuple[EfficiencyRun, ...]:
    """Train on growing shares of the patients of each class, with and without the weights, for equally many steps.

    Each seed draws its own order of the patients; a larger share holds the smaller ones.

    Args:
        split: the examinations.
        plan: the choices of every training.
        start: the weights.
        strategy: of the arm that starts from them.
        output: folder that gets a bundle per training.
        definition: the network.
        scratch_rate: peak learning rate without the weights, which need not be kept then.
        fractions: shares in percent; of every class one patient at least is taken.
        seeds: of the trainings.
        existing: what becomes of what is in the folders already.
        say: called with a sentence before each training.

    Raises:
        UserError: a share is not in (0, 100].
    """
    arms: dict[Arm, tuple[Strategy, str, float]] = {
        "transfer": (strategy, start.absolute, plan.learning_rate),
        "scratch": (Strategy(), "", scratch_rate),
    }
    runs = []
    for seed in seeds:
        parts = {len(part): part for part in (_share(split.training, percent, seed) for percent in sorted(fractions))}
        for part in parts.values():
            for arm, (followed, weights, rate) in arms.items():
                say(f"{arm}, {len(part)} examination(s), seed {seed}: {plan.steps} steps")
                own = replace(plan, seed=seed, learning_rate=rate)
                configs = diagnosis_configs(
                    own, part, split.validation, definition=definition, strategy=followed, weights=weights
                )
                place = output / f"{len(part)}_exams" / f"seed_{seed}" / arm
                bundle = BundleFolder.create(
                    TEMPLATE, place, configs=configs, overwrite=existing.overwrite, resume=existing.resume
                )
                bundle.run("train", "finetune", device=plan.device)
                area = score_exams(bundle.root, split.held, device=str(plan.device)).auc.value
                runs.append(EfficiencyRun(arm, len(part), seed, area))
    return tuple(runs)


def efficiency_table(runs: Sequence[EfficiencyRun]) -> str:
    """A row per number of examinations, in Markdown.

    Example:
        >>> runs = [EfficiencyRun("transfer", 8, 0, 0.9), EfficiencyRun("scratch", 8, 0, 0.7)]
        >>> print(efficiency_table(runs).splitlines()[-1])
        | 8 | 0.900 ± 0.000 | 0.700 ± 0.000 |
    """
    seeds = len({run.seed for run in runs})
    lines = [f"| learnt from | AUC from the weights, {seeds} seed(s) | AUC from scratch |", "|---|---|---|"]
    for count in sorted({run.exams for run in runs}):
        areas = [[run.auc for run in runs if (run.arm, run.exams) == (arm, count)] for arm in ("transfer", "scratch")]
        lines.append(f"| {count} | " + " | ".join(f"{np.mean(one):.3f} ± {np.std(one):.3f}" for one in areas) + " |")
    return "\n".join(lines)


def _share(exams: ExamDataset, percent: float, seed: int) -> ExamDataset:
    return exams if checked(Percentage, percent) == 100 else exams.split(percent / 100, seed=seed)[1]
