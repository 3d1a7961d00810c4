"""``monai-transfer benchmark``: side-by-side measurements."""

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.benchmark_adaptation import adaptation
from monai_transfer.cli.benchmark_files import files
from monai_transfer.cli.benchmark_growth import growth
from monai_transfer.cli.benchmark_judgement import judgement
from monai_transfer.cli.benchmark_scheduling import scheduling
from monai_transfer.cli.benchmark_training import training
from monai_transfer.cli.options import DeviceOption, JsonOption, SeedOption, three_numbers
from monai_transfer.options import Backbone, Blending

benchmark = typer.Typer(help="Measure side by side.", no_args_is_help=True)


@benchmark.callback()
def _root() -> None:
    """Measure side by side: inference against plain MONAI, training overhead, adaptation methods."""


@benchmark.command("inference")
def inference(
    shape: Annotated[str, typer.Option(help="Voxels of the generated CT.")] = "512,512,200",
    spacing: Annotated[str, typer.Option(help="Its voxel size in mm.")] = "0.8,0.8,1.5",
    classes: Annotated[int, typer.Option(help="Number of classes, background included.")] = 5,
    backbone: Annotated[Backbone, typer.Option(help="unet, resnet18, or pointwise (costs next to nothing).")] = "unet",
    overlap: Annotated[float, typer.Option(help="Overlap of the windows.")] = 0.25,
    mode: Annotated[Blending, typer.Option(help="gaussian or constant blending.")] = "gaussian",
    roi: Annotated[int, typer.Option(help="Voxels of a window along each axis.")] = 96,
    steps: Annotated[int, typer.Option(help="Training steps of the network; 0: random weights.")] = 60,
    threads: Annotated[int, typer.Option(help="CPU threads of each side.")] = 2,
    variants: Annotated[
        bool, typer.Option(help="Also measure other runtimes, bfloat16, empty windows left out.")
    ] = True,
    stock: Annotated[bool, typer.Option(help="Run MONAI's side.")] = True,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare inference with MONAI's usual pipeline: wall time, peak memory, equality of the labels.

    A CT is generated and segmented by both sides with the same network and windows, each in a process of its own.

    Example: monai-transfer benchmark inference --shape 160,160,80 --json
    """
    from monai_transfer.benchmarks import BenchmarkSettings, compare
    from monai_transfer.machine import choose_device

    settings = BenchmarkSettings(
        shape=three_numbers(shape, "--shape", int),
        spacing=three_numbers(spacing, "--spacing", float),
        classes=classes,
        backbone=backbone,
        overlap=overlap,
        mode=mode,
        roi=roi,
        steps=steps,
        device=str(choose_device(device)),
        threads=threads,
        variants=variants,
        stock=stock,
        seed=seed,
    )
    report = compare(settings, progress=console.say)
    console.emit_measured(report, _show, output=output, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    names = list(report["seconds"])
    table = Table("stage", *names, title="Seconds")
    for stage in report["seconds"]["ours"]:
        table.add_row(stage, *(f"{report['seconds'][name].get(stage, 0):.2f}" for name in names))
    table.add_row("peak MB", *(f"{report['peak_memory_mb'][name]:.0f}" for name in names))
    console.out.print(table)
    rows = {"ours": report, **{name: report[name] for name in names if name in report}}
    kinds = ("speedup", "processor_speedup", "speedup_over_plain", "memory_ratio", "agreement", "network_share")
    ratios = Table("side", *(kind for kind in kinds if kind in report), title="Against plain MONAI")
    for name, row in rows.items():
        ratios.add_row(name, *(f"{row[kind]:.4f}" for kind in kinds if kind in report))
    console.out.print(ratios)


benchmark.command("adaptation")(adaptation)
benchmark.command("files")(files)
benchmark.command("growth")(growth)
benchmark.command("judgement")(judgement)
benchmark.command("scheduling")(scheduling)
benchmark.command("training")(training)
