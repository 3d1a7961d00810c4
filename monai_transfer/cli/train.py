"""``monai-transfer train``: a bundle from a labelled data set."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    CasesOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    NetworkOption,
    OverwriteOption,
    SeedOption,
    SpacingOption,
    StepsOption,
    split_list,
    split_numbers,
)


def train(
    data: Annotated[Path, typer.Option(help="Labelled data set.")],
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    cases: CasesOption = None,
    network: NetworkOption = None,
    spacing: SpacingOption = None,
    steps: StepsOption = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases per step.")] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a segmentation bundle on labelled volumes and score it on the cases that it held out.

    Example: monai-transfer train --data Task09_Spleen --output spleen
    """
    from monai_transfer.bundle.plan import PlanOptions
    from monai_transfer.workflows.training import (
        choose_cases,
        plan_training,
        prepare_bundle,
        report_training,
    )

    options = PlanOptions(
        device=device,
        spacing=split_numbers(spacing, "--spacing"),
        network=network,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
    )
    split = choose_cases(data, split_list(cases))
    plan = plan_training(split, **options.given)
    console.say_plan(plan)
    if dry_run:
        return
    bundle = prepare_bundle(split, plan, output, overwrite=overwrite)
    console.say_section(f"training: {plan.steps} steps on {plan.device}")
    bundle.run("train", device=plan.device)
    table = report_training(bundle, split, plan)
    if as_json:
        console.emit_json({"bundle": str(bundle.root), "scores": table.figures() if table is not None else None})
    elif table is not None:
        console.tell(f"Mean Dice {table.mean('dice'):.3f} on the held cases.", f"Report: {bundle.root / 'report.html'}")
