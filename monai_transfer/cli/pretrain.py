"""``monai-transfer pretrain``: weights of one's own to start from, before any label is needed."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import DeviceOption, DryRunOption, JsonOption, OverwriteOption, ResumeOption, SeedOption


def pretrain_command(
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    recipe: Annotated[str, typer.Option(help="shapes: random shapes in random contrasts; needs no data.")] = "shapes",
    network: Annotated[str, typer.Option(help="unet, unet_bn, resnet10, resnet18, …")] = "unet",
    objective: Annotated[str, typer.Option(help="contrast, segmentation or both.")] = "both",
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 4000,
    minutes: Annotated[
        float | None, typer.Option(help="End after so many minutes, if that is before the last step.")
    ] = None,
    length: Annotated[int, typer.Option(help="Voxels along each axis of the largest volumes.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Label maps per step, each in two appearances.")] = 2,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain a network on random shapes in random contrasts; its weights start any fine-tuning by --weights.

    Example: monai-transfer pretrain --network unet --output shapes --minutes 60
    """
    from monai_transfer.bundle.pretraining_plan import PretrainingPlan, Recipe
    from monai_transfer.machine import choose_device
    from monai_transfer.options import checked

    checked(Recipe, recipe)
    plan = PretrainingPlan(
        choose_device(device),
        network=network,
        objective=objective,  # type: ignore[arg-type]
        steps=steps,
        minutes=minutes,
        length=length,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    console.say(f"{plan.network} on {plan.device}, {plan.steps} steps, cubes of up to {plan.length} voxels.")
    if dry_run:
        return
    from monai_transfer.workflows.pretraining import pretrain

    result = pretrain(plan, output, overwrite=overwrite, resume=resume, say=console.say_section)
    console.emit_result(result.as_report(), result.sentences, as_json=as_json)
