"""``monai-transfer benchmark training``: what a step costs beside the passes it needs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import DeviceOption, JsonOption, SeedOption
from monai_transfer.options import split_list


def training(
    network: Annotated[str, typer.Option(help="Networks with commas between.")] = "unet,resnet18",
    methods: Annotated[
        str | None, typer.Option(help="Methods with commas between, + combines; by default every one that fits.")
    ] = None,
    roi: Annotated[int, typer.Option(help="Voxels of a window along each axis.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Cases per domain.")] = 2,
    classes: Annotated[int, typer.Option(help="Number of classes, background included.")] = 6,
    steps: Annotated[int, typer.Option(help="Measured steps.")] = 10,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the trainer's step with the bare forward and backward passes that it needs, in one run.

    Example: monai-transfer benchmark training --network unet --methods DANN,MeanTeacher --json
    """
    from monai_transfer.benchmarks.step_cost import StepSettings, default_methods, step_costs
    from monai_transfer.machine import choose_device

    settings = StepSettings(
        networks=tuple(split_list(network)),
        methods=tuple(split_list(methods)) or default_methods(),
        roi=roi,
        batch_size=batch_size,
        classes=classes,
        steps=steps,
        device=choose_device(device),
        seed=seed,
    )
    report = step_costs(settings, say=console.say)
    console.emit_measured(report, _show, output=output, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(
        "network", "method", "step (ms)", "bare passes (ms)", "step / bare", "step / plain loop", "bfloat16 / float32"
    )
    for network, methods in report["networks"].items():
        for method, entry in methods.items():
            if "error" in entry:
                table.add_row(network, method, *"–––––")
                continue
            times = [f"{1000 * entry['seconds'][key]:.0f}" for key in ("step", "bare")]
            ratios = ("overhead", "overhead_of_loop", "bfloat16")
            table.add_row(network, method, *times, *(f"{entry[key]:.3f}" if key in entry else "–" for key in ratios))
    console.out.print(table)
