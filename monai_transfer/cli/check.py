"""``monai-transfer check``: whether a data set can be trained on, and its figures."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from monai_transfer.cli import console
from monai_transfer.cli.options import AllowIrregularOption, AssumeAffineOption, JsonOption, TaskOption
from monai_transfer.cli.progress import case_progress
from monai_transfer.text import one_line

if TYPE_CHECKING:
    from monai_transfer.datasets import CaseDataset, CheckReport, ExamDataset, ExamReport, Fingerprint
    from monai_transfer.volumes.volume import Reading


def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder or datalist to check.")],
    task: TaskOption = "segmentation",
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check that a data set is sound, and print its fingerprint.

    Every file is read: it must be a finite 3D volume, labels must lie on their image's grid and hold known whole
    numbers, and no image may be there twice. For diagnosis no patient may stand on both sides of a split. Exit
    status 1 when there are faults.

    Example: monai-transfer check Task09_Spleen
    """
    from monai_transfer.datasets import check_dataset, read_dataset
    from monai_transfer.volumes.volume import Reading

    reading = Reading(assume_affine, allow_irregular)
    if task == "diagnosis":
        _check_exams(dataset, reading, as_json=as_json)
        return
    found = read_dataset(dataset, section="all", reading=reading)
    with case_progress("checking") as progress:
        report = check_dataset(found, progress=progress)
    if as_json:
        console.emit_json(_as_json(found, report))
    else:
        _print_report(found, report)
    if not report.sound:
        raise typer.Exit(1)


def _check_exams(path: Path, reading: "Reading", *, as_json: bool) -> None:
    from monai_transfer.datasets import check_exams, read_exams

    exams = read_exams(path)
    with case_progress("checking") as progress:
        report = check_exams(exams, reading=reading, progress=progress)
    if as_json:
        console.emit_json(_exams_as_json(exams, report))
    else:
        _print_exams(exams, report)
    if not report.sound:
        raise typer.Exit(1)


def _exams_as_json(exams: "ExamDataset", report: "ExamReport") -> dict[str, Any]:
    return {
        "dataset": str(exams.root),
        "exams": len(exams),
        "patients": len(exams.patients),
        "labelled": len(exams.labelled),
        "classes": exams.counts,
        "exclusive": exams.exclusive,
        "spatial_dims": report.spatial_dims,
        "channels": report.channels,
        "size": report.size,
        **_findings_as_json(report),
    }


def _print_exams(exams: "ExamDataset", report: "ExamReport") -> None:
    _print_findings(report)
    table = Table(title="Examinations", show_header=False, title_justify="left")
    for name, count in exams.counts.items():
        table.add_row(name, str(count))
    table.add_row("patients", str(len(exams.patients)))
    table.add_row(
        "images", f"{report.spatial_dims}D, {' × '.join(map(str, report.size))}, {report.channels} channel(s)"
    )
    console.out.print(table)
    _print_verdict(report, f"{exams.root}: {len(exams)} examination(s), {len(exams.labelled)} labelled")


def _as_json(dataset: "CaseDataset", report: "CheckReport") -> dict[str, Any]:
    return {
        "dataset": str(dataset.root),
        "cases": len(dataset),
        "labelled": len(dataset.labelled),
        "label_names": dataset.label_names,
        "channel_names": dataset.channel_names,
        **_findings_as_json(report),
    }


def _findings_as_json(report: "CheckReport") -> dict[str, Any]:
    return {
        "sound": report.sound,
        "faults": [asdict(fault) for fault in report.faults],
        "warnings": [asdict(warning) for warning in report.warnings],
        "fingerprint": asdict(report.fingerprint) if report.fingerprint else None,
    }


def _print_report(dataset: "CaseDataset", report: "CheckReport") -> None:
    _print_findings(report)
    if report.fingerprint is not None:
        console.out.print(_fingerprint_table(dataset, report.fingerprint))
    _print_verdict(report, f"{dataset.root}: {len(dataset)} case(s), {len(dataset.labelled)} labelled")


def _print_findings(report: "CheckReport") -> None:
    for finding in report.faults:
        console.out.print(console.titled("fault", finding.message, style="bold red"), soft_wrap=True)
    for finding in report.warnings:
        console.out.print(console.titled("note", finding.message, style="bold yellow"), soft_wrap=True)


def _print_verdict(report: "CheckReport", subject: str) -> None:
    verdict = ("sound", "bold green") if report.sound else (f"{len(report.faults)} fault(s)", "bold red")
    console.out.print(Text.assemble(f"{one_line(subject)}: ", verdict), soft_wrap=True)


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
