"""Which checkpoint of an adaptation is used, judged without target labels."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.datasets import CaseDataset
from monai_transfer.evaluation import CheckpointChoice, LabelFreeScores, ScoreTable, choose_checkpoint
from monai_transfer.files import copy_file, write_text
from monai_transfer.workflows.choice import LabelFreeScorer, put_back_adapted
from monai_transfer.workflows.scoring import score_bundle

_RECORD = Path("eval", "choice.json")


def checkpoints(bundle: BundleFolder, plan: Plan) -> dict[int, Path]:
    """Step -> file of the checkpoints that a training left."""
    _, steps = plan.epochs
    found = {}
    for path in bundle.weights.parent.glob("*epoch=*.pt"):
        if (epoch := re.search(r"epoch=(\d+)", path.name)) is not None:
            found[int(epoch[1]) * steps] = path
    return dict(sorted(found.items()))


def settle_checkpoint(
    bundle: BundleFolder, scorer: LabelFreeScorer, plan: Plan, test: CaseDataset | None, *, resume: bool = False
) -> tuple[CheckpointChoice, ScoreTable | None]:
    """Give the bundle the checkpoint that looks best without labels, and remove the others.

    Args:
        bundle: the trained bundle.
        scorer: looks at the checkpoints.
        plan: the choices of the training.
        test: labelled cases on which all of them are scored before, if there are any.
        resume: whether what was chosen there before stays.

    Returns:
        the choice, and its scores on the test cases.
    """
    done = recorded_choice(bundle) if resume else None
    if done is None:
        choice, table = choose_trained(bundle, scorer, plan), None
        if test is not None:
            choice, table = score_checkpoints(bundle, choice, test, plan)
        record_choice(bundle, choice, table)
        done = choice, table
    remove_checkpoints(bundle, plan)
    return done


def choose_trained(bundle: BundleFolder, scorer: LabelFreeScorer, plan: Plan) -> CheckpointChoice:
    """Compare the checkpoints and the last weights, and give the bundle the chosen one's."""
    last, per_epoch = plan.epochs
    if last * per_epoch not in checkpoints(bundle, plan):
        copy_file(bundle.weights, bundle.weights.with_name(f"network_epoch={last}.pt"))
    files = checkpoints(bundle, plan)
    scores = {step: scorer.scores(bundle, path, epoch=step // per_epoch) for step, path in files.items()}
    step = choose_checkpoint(scores, scorer.sizes)
    copy_file(files[step], bundle.weights)
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
        copy_file(files[step], bundle.weights)
        tables[step] = score_bundle(bundle, test, device=str(plan.device))
    dice = {step: tables[step].mean("dice") for step in sorted(tables)}
    return replace(choice, dice=dice), tables[choice.step]


def remove_checkpoints(bundle: BundleFolder, plan: Plan) -> None:
    """Delete all but the bundle's weights."""
    for path in checkpoints(bundle, plan).values():
        path.unlink()


def record_choice(bundle: BundleFolder, choice: CheckpointChoice, table: ScoreTable | None) -> None:
    """Write down what was chosen and scored, before the checkpoints that it was chosen from are removed."""
    content = {"choice": choice.as_dict(), "scores": None if table is None else table.as_dict()}
    write_text(bundle.root / _RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def recorded_choice(bundle: BundleFolder) -> tuple[CheckpointChoice, ScoreTable | None] | None:
    """What :func:`record_choice` wrote, and the chosen weights in place; ``None`` where nothing was chosen yet."""
    if not (bundle.root / _RECORD).is_file():
        return None
    content = json.loads((bundle.root / _RECORD).read_text(encoding="utf-8"))
    put_back_adapted(bundle)
    scores = content["scores"]
    return _choice(content["choice"]), None if scores is None else ScoreTable.from_dict(scores)


def _choice(content: Mapping[str, Any]) -> CheckpointChoice:
    """What ``CheckpointChoice.as_dict`` gave; only source validation may be missing, any other null was no number."""
    scores = {}
    for step, values in content["scores"].items():
        lost = {name for name, value in values.items() if value is None} - {"source_validation"}
        scores[int(step)] = LabelFreeScores(**{**values, **dict.fromkeys(lost, math.nan)})
    return CheckpointChoice(content["step"], scores, {int(step): dice for step, dice in content["dice"].items()})
