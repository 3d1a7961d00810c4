"""``monai-transfer benchmark files``: reading and writing of compressed NIfTI beside nibabel."""

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, SeedOption, three_numbers


def files(
    shape: Annotated[str, typer.Option(help="Voxels of the generated CT.")] = "512,512,400",
    rounds: Annotated[int, typer.Option(help="How often each side reads and writes, the two in turns.")] = 3,
    seed: SeedOption = 0,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare reading and writing of a .nii.gz with nibabel's: time of the processor and of the wall, size of the file.

    Example: monai-transfer benchmark files --shape 256,256,100 --json
    """
    from monai_transfer.benchmarks.files import FileSettings, file_costs

    settings = FileSettings(shape=three_numbers(shape, "--shape", int), rounds=rounds, seed=seed)
    report = file_costs(settings, progress=console.say)
    console.emit_measured(report, _show, output=output, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("", "time", "read", "write", "both", "size", title="Of nibabel's")
    for kind in ("image", "labels"):
        for clock in ("processor", "wall"):
            ratios = report[kind][clock]
            size = report[kind]["size"]
            table.add_row(kind, clock, *(f"{ratios[work]:.2f}" for work in ("read", "write", "both")), f"{size:.2f}")
    console.out.print(table)
