"""What ``train`` does with ``--task both``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from monai_transfer.cli import console
from monai_transfer.errors import UserError
from monai_transfer.options import read_numbers, refuse_given
from monai_transfer.volumes.volume import Reading

BothTasksOption = Annotated[
    Literal["segmentation", "diagnosis", "both"],
    typer.Option(help="What the labels say: label maps, a class per image, or both of them."),
]
TaskWeightsOption = Annotated[
    str | None,
    typer.Option(help="Both tasks: weights of segmentation and diagnosis, such as 1,0.5; else they are learnt."),
]


def train_both_command(
    data: Path,
    output: Path,
    reading: Reading,
    *,
    refused: Mapping[str, object],
    weights: tuple[float, float] | None = None,
    sensitivity: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Plan, check, train and tell; the arguments are those of ``train``, ``options`` those of ``PlanOptions``.

    Raises:
        UserError: one of ``refused`` is given, which would do nothing.
    """
    refuse_given(refused, "{} is for one task alone: omit it with --task both.")

    from monai_transfer.bundle.request import PlanOptions
    from monai_transfer.workflows import two_tasks as work

    chosen = PlanOptions(**options)
    split = work.choose_two_tasks(data, seed=chosen.seed or 0, reading=reading)
    plan = work.plan_two_tasks(split, **chosen.given)
    console.say_plan(plan)
    if dry_run:
        return console.emit_plan(plan, as_json=as_json)
    result = work.train_two_tasks(
        split, plan, output, weights=weights, sensitivity=sensitivity, overwrite=overwrite, resume=resume,
        say=console.say_section,
    )  # fmt: skip
    console.emit_result({"bundle": str(result.bundle.root), **result.report}, result.sentences, as_json=as_json)


def read_task_weights(text: str | None) -> tuple[float, float] | None:
    """The weights of segmentation and diagnosis.

    Raises:
        UserError: they are not two numbers above 0.
    """
    if text is None:
        return None
    numbers = read_numbers(text, float)
    if len(numbers) != 2 or not all(0 < number < 1e6 for number in numbers):
        raise UserError(f"--task-weights {text} is not possible: give two numbers above 0, such as 1,0.5.")
    return numbers[0], numbers[1]
