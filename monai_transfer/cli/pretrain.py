"""``monai-transfer pretrain``: weights of one's own to start from, before any label is needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    OverwriteOption,
    ResumeOption,
    SeedOption,
    SpacingOption,
    TrainingPrecisionOption,
)
from monai_transfer.options import checked, refuse_given, split_numbers

if TYPE_CHECKING:
    from monai_transfer.bundle.pretraining_configs import Volumes
    from monai_transfer.bundle.pretraining_plan import PretrainingPlan


def pretrain_command(
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    recipe: Annotated[
        str, typer.Option(help="shapes: random shapes, no data; masked: volumes of --data with hidden blocks.")
    ] = "shapes",
    data: Annotated[
        list[Path] | None, typer.Option(help="Volumes for masked, labels not needed; repeat for several modalities.")
    ] = None,
    spacing: SpacingOption = None,
    network: Annotated[str, typer.Option(help="unet, unet_bn, resnet10, resnet18, …")] = "unet",
    objective: Annotated[str, typer.Option(help="contrast, segmentation or both.")] = "both",
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 4000,
    minutes: Annotated[float | None, typer.Option(help="End after so many minutes, if --steps take longer.")] = None,
    length: Annotated[int, typer.Option(help="Voxels along each axis of the largest volumes.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Label maps, or volumes of each folder, per step.")] = 2,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    precision: TrainingPrecisionOption = None,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pretrain a network without labels; its weights start any training by --weights.

    shapes draws label maps in random contrasts; masked fills in hidden blocks of your own volumes, of all modalities.

    Example: monai-transfer pretrain --network unet --output shapes --minutes 60
    """
    from monai_transfer.bundle.pretraining_plan import PretrainingPlan, Recipe
    from monai_transfer.machine import choose_device

    checked(Annotated[Recipe, Field(title="--recipe")], recipe)
    reads = {"assume_affine": assume_affine, "allow_irregular": allow_irregular}
    if recipe == "shapes":
        refuse_given({"data": data, "spacing": spacing, **reads}, "{} goes with --recipe masked: omit it.")
    plan = PretrainingPlan(
        choose_device(device),
        recipe=recipe,  # type: ignore[arg-type]
        network=network,
        objective=objective,  # type: ignore[arg-type]
        steps=steps,
        minutes=minutes,
        length=length,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        precision=precision,
    )
    volumes = _volumes(data or [], spacing, plan, reads) if plan.recipe == "masked" else None
    console.say(f"{plan.network} on {plan.device}, {plan.steps} steps, cubes of up to {plan.length} voxels.")
    if dry_run:
        return
    from monai_transfer.workflows.pretraining import pretrain

    result = pretrain(plan, output, volumes=volumes, overwrite=overwrite, resume=resume, say=console.say_section)
    console.emit_result(result.as_report(), result.sentences, as_json=as_json)


def _volumes(data: list[Path], spacing: str | None, plan: "PretrainingPlan", reads: dict[str, bool]) -> "Volumes":
    from monai_transfer.bundle.pretraining_configs import choose_volumes
    from monai_transfer.volumes.volume import Reading

    volumes = choose_volumes(data, plan, spacing=split_numbers(spacing, "--spacing"), reading=Reading(**reads))
    grid = " × ".join(f"{step:g}" for step in volumes.spacing)
    console.say(f"{volumes.describe()} on a grid of {grid} mm.")
    return volumes
