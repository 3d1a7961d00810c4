"""``monai-transfer check``: whether a data set can be trained on, and its figures."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from monai_transfer.cli import console
from monai_transfer.cli.options import AssumeAffineOption, JsonOption
from monai_transfer.cli.progress import case_progress
from monai_transfer.text import one_line

if TYPE_CHECKING:
    from monai_transfer.datasets import (
        CaseDataset,
        CheckReport,
        Fingerprint,
    )


def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder or datalist to check.")],
    assume_affine: AssumeAffineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check that a data set is sound, and print its fingerprint.

    Every file is read: it must be a finite 3D volume, labels must lie on their image's grid and hold known whole
    numbers, and no image may be there twice. Exit status 1 when there are faults.

    Example: monai-transfer check Task09_Spleen
    """
    from monai_transfer.datasets import check_dataset, read_dataset
    from monai_transfer.volumes.volume import Reading

    found = read_dataset(dataset, section="all")
    with case_progress("checking") as progress:
        report = check_dataset(found, reading=Reading(assume_affine=assume_affine), progress=progress)
    if as_json:
        console.emit_json(_as_json(found, report))
    else:
        _print_report(found, report)
    if not report.sound:
        raise typer.Exit(1)


def _as_json(dataset: "CaseDataset", report: "CheckReport") -> dict[str, Any]:
    return {
        "dataset": str(dataset.root),
        "cases": len(dataset),
        "labelled": len(dataset.labelled),
        "label_names": dataset.label_names,
        "channel_names": dataset.channel_names,
        "sound": report.sound,
        "faults": [asdict(fault) for fault in report.faults],
        "warnings": [asdict(warning) for warning in report.warnings],
        "fingerprint": asdict(report.fingerprint) if report.fingerprint else None,
    }


def _print_report(dataset: "CaseDataset", report: "CheckReport") -> None:
    for finding in report.faults:
        console.out.print(console.titled("fault", finding.message, style="bold red"), soft_wrap=True)
    for finding in report.warnings:
        console.out.print(console.titled("note", finding.message, style="bold yellow"), soft_wrap=True)
    if report.fingerprint is not None:
        console.out.print(_fingerprint_table(dataset, report.fingerprint))
    verdict = ("sound", "bold green") if report.sound else (f"{len(report.faults)} fault(s)", "bold red")
    cases = f"{len(dataset)} case(s), {len(dataset.labelled)} labelled"
    console.out.print(Text.assemble(f"{one_line(str(dataset.root))}: {cases}: ", verdict), soft_wrap=True)


def _fingerprint_table(dataset: "CaseDataset", fingerprint: "Fingerprint") -> Table:
    table = Table(title="Fingerprint", show_header=False, title_justify="left")
    smallest, largest = fingerprint.spacing_range
    table.add_row("sound cases", f"{fingerprint.cases}, {fingerprint.labelled} labelled")
    table.add_row("modality", fingerprint.modality.upper())
    table.add_row("channels", ", ".join(dataset.channel_names))
    spread = "" if smallest == largest else f" ({_times(smallest)} to {_times(largest)})"
    table.add_row("voxel size, mm", _times(fingerprint.spacing) + spread)
    table.add_row("voxels", _times(fingerprint.shape))
    table.add_row("extent, mm", _times(fingerprint.extent_mm))
    values = fingerprint.intensity
    spread = f"{values['percentile_00_5']:.4g} to {values['percentile_99_5']:.4g}, median {values['median']:.4g}"
    table.add_row("foreground intensity", f"{spread} (all: {values['min']:.4g} to {values['max']:.4g})")
    for value, volume in fingerprint.label_volumes_ml.items():
        table.add_row(f"label {value} {dataset.label_names.get(value, '')}".strip(), f"{volume:.4g} ml")
    return table


def _times(values: tuple[float, float, float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
