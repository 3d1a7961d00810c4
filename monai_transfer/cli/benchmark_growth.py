"""``monai-transfer benchmark growth``: how time and memory of ``segment`` grow."""

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, SeedOption, three_numbers


def growth(
    largest: Annotated[str, typer.Option(help="Voxels of the largest volume.")] = "512,512,800",
    classes: Annotated[int, typer.Option(help="The most classes, background included.")] = 117,
    cases: Annotated[int, typer.Option(help="The most cases in a folder.")] = 200,
    threads: Annotated[int, typer.Option(help="CPU threads of each process.")] = 1,
    seed: SeedOption = 0,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how time and memory of segment grow with the volume, the classes and the cases, and fit exponents.

    The network looks at one voxel at a time, so that the package is measured and not the convolutions.

    Example: monai-transfer benchmark growth --largest 128,128,128 --classes 20 --cases 10
    """
    from monai_transfer.benchmarks.growth import GrowthSettings, measure_growth

    settings = GrowthSettings(
        largest=three_numbers(largest, "--largest", int), classes=classes, cases=cases, threads=threads, seed=seed
    )
    report = measure_growth(settings, progress=console.say)
    console.emit_measured(report, _show, output=output, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("", "volume", "classes", "cases", "CPU s", "wall s", "MB", "peak MB", title="Above the start")
    kinds = ("processor_seconds", "wall_seconds", "memory_mb")
    for name, series in report["series"].items():
        for point in series["points"]:
            facts = ("×".join(map(str, point["shape"])), str(point["classes"]), str(point["cases"]))
            seconds = (f"{point[kind]:.2f}" for kind in kinds[:2])
            table.add_row(name, *facts, *seconds, f"{point['memory_mb']:.0f}", f"{point['peak_memory_mb']:.0f}")
        for title, key in (("exponent", "exponents"), ("last step", "last_exponents")):
            table.add_row(title, "", "", "", *(f"{series[key][kind]:.2f}" for kind in kinds), "", style="bold")
        table.add_section()
    console.out.print(table)
    console.tell(f"The largest exponent is {report['largest_exponent']:.2f}.")
