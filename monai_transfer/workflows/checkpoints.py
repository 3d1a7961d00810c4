"""Which checkpoint of an adaptation is used, judged without target labels."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.datasets import CaseDataset
from monai_transfer.evaluation import CheckpointChoice, ScoreTable, choose_checkpoint
from monai_transfer.files import replacing
from monai_transfer.workflows.choice import Judge
from monai_transfer.workflows.scoring import score_bundle


def checkpoints(bundle: BundleFolder, plan: Plan) -> dict[int, Path]:
    """Step -> file of the checkpoints that a training left."""
    _, steps = plan.epochs
    found = {}
    for path in bundle.weights.parent.glob("*epoch=*.pt"):
        if (epoch := re.search(r"epoch=(\d+)", path.name)) is not None:
            found[int(epoch[1]) * steps] = path
    return dict(sorted(found.items()))


def choose_trained(bundle: BundleFolder, judge: Judge, plan: Plan) -> CheckpointChoice:
    """Judge the checkpoints and the last weights, and give the bundle the chosen one's."""
    last, per_epoch = plan.epochs
    if last * per_epoch not in checkpoints(bundle, plan):
        shutil.copy2(bundle.weights, bundle.weights.with_name(f"network_epoch={last}.pt"))
    files = checkpoints(bundle, plan)
    scores = {step: judge.scores(bundle, path, epoch=step // per_epoch) for step, path in files.items()}
    step = choose_checkpoint(scores, judge.sizes)
    _install(bundle, files[step])
    return CheckpointChoice(step, scores)


def score_checkpoints(
    bundle: BundleFolder, choice: CheckpointChoice, test: CaseDataset, plan: Plan
) -> tuple[CheckpointChoice, ScoreTable]:
    """The choice with the mean Dice of every checkpoint on the labelled test cases, and the chosen one's scores.

    For the report alone: the bundle keeps the chosen weights, and the label maps that they give.
    """
    files = checkpoints(bundle, plan)
    tables = {}
    for step in [*(step for step in files if step != choice.step), choice.step]:
        _install(bundle, files[step])
        tables[step] = score_bundle(bundle, test, device=str(plan.device))
    dice = {step: tables[step].mean("dice") for step in sorted(tables)}
    return replace(choice, dice=dice), tables[choice.step]


def remove_checkpoints(bundle: BundleFolder, plan: Plan) -> None:
    """Delete all but the bundle's weights."""
    for path in checkpoints(bundle, plan).values():
        path.unlink()


def _install(bundle: BundleFolder, weights: Path) -> None:
    with replacing(bundle.weights) as file:
        file.write(weights.read_bytes())
