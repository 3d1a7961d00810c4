"""``monai-transfer evaluate``: scores of a bundle, or of label maps, on a labelled data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    CasesOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    TrustOption,
    split_list,
)
from monai_transfer.cli.progress import case_progress
from monai_transfer.cli.trusting import settle_trust
from monai_transfer.errors import UserError

if TYPE_CHECKING:
    from monai_transfer.datasets import CaseDataset
    from monai_transfer.evaluation import ScoreTable
    from monai_transfer.workflows.evaluation import Evaluation, Predictions


def evaluate_command(
    data: Annotated[Path, typer.Option(help="Labelled data set.")],
    output: Annotated[Path, typer.Option(help="Folder of the scores and the report.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle that segments the images.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of label maps, CASE.nii.gz, to score instead of a bundle's.")
    ] = None,
    cases: CasesOption = None,
    tolerance: Annotated[float, typer.Option(help="Tolerance of NSD in mm.")] = 2.0,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a bundle on labelled volumes: Dice, IoU, HD95, ASSD, NSD per case and label.

    Everything is measured on the grid of the labels. Writes OUTPUT/report.html with pictures, OUTPUT/scores.csv and
    OUTPUT/scores.json; the label maps of a bundle go to OUTPUT/predictions. Exit status 1 when a case has no
    label map to score. A bundle that names classes is scored on labelled examinations: AUC, average precision,
    sensitivity, calibration, with intervals.

    Example: monai-transfer evaluate --bundle bundles/organs --data test_set --output scores
    """
    from monai_transfer.bundle.facts import inspect_bundle
    from monai_transfer.datasets import read_dataset
    from monai_transfer.machine import require_device
    from monai_transfer.options import Tolerance, checked
    from monai_transfer.volumes.volume import Reading

    if (bundle is None) == (predictions is None):
        raise UserError("Give either --bundle, to segment the images, or --predictions, to score label maps.")
    checked(Tolerance, tolerance)
    require_device(device)
    if bundle is not None and inspect_bundle(bundle).diagnoses:
        trusted = settle_trust([bundle], trust=trust, dry_run=dry_run)
        _evaluate_diagnosis(bundle, data, output, device, trust=trusted, dry_run=dry_run, as_json=as_json)
        return
    dataset = read_dataset(data, reading=Reading(assume_affine, allow_irregular))
    if cases is not None:
        dataset = dataset.select(split_list(cases))
    trusted = bundle is not None and settle_trust([bundle], trust=trust, dry_run=dry_run)
    if dry_run:
        _say_plan(dataset, bundle or predictions, output)
        return

    from monai_transfer.workflows.evaluation import evaluate

    made = _predict(bundle, predictions, dataset, output, device, trust=trusted)
    for reason in made.failures.values():
        console.error(reason)
    with case_progress("scoring") as progress:
        evaluation = evaluate(made, dataset, output, nsd_tolerance_mm=tolerance, progress=progress)
    _show(evaluation, as_json=as_json)
    if not evaluation.complete:
        raise typer.Exit(1)


def _show(evaluation: "Evaluation", *, as_json: bool) -> None:
    if as_json:
        console.emit_json(evaluation.record)
    else:
        console.out.print(_score_table(evaluation.table))
        console.tell(str(evaluation.record["headline"]), f"report: {evaluation.files[0]}")
    for warning in evaluation.record["warnings"]:
        console.note(warning)


def _evaluate_diagnosis(
    bundle: Path, data: Path, output: Path, device: str, *, trust: bool, dry_run: bool, as_json: bool
) -> None:
    from monai_transfer.datasets import read_exams
    from monai_transfer.workflows.diagnosis_evaluation import evaluate_diagnosis

    exams = read_exams(data)
    if dry_run:
        console.tell(f"would score {bundle} on {len(exams.labelled)} labelled examinations of {data} into {output}")
        return
    with case_progress("scoring") as progress:
        evaluation = evaluate_diagnosis(bundle, exams, output, device=device, trust=trust, progress=progress)
    for reason in evaluation.answers.failures.values():
        console.error(reason)
    if as_json:
        console.emit_json(evaluation.record)
    else:
        console.tell(str(evaluation.record["headline"]), f"report: {evaluation.files[0]}")
    for warning in evaluation.record["warnings"]:
        console.note(warning)
    if not evaluation.complete:
        raise typer.Exit(1)


def _predict(
    bundle: Path | None, folder: Path | None, dataset: "CaseDataset", output: Path, device: str, *, trust: bool
) -> "Predictions":
    from monai_transfer.workflows.evaluation import Predictions

    if folder is not None:
        return Predictions.in_folder(folder)
    assert bundle is not None
    with case_progress("segmenting") as progress:
        return Predictions.by_bundle(
            bundle, dataset, output / "predictions", device=device, trust=trust, progress=progress
        )


def _say_plan(dataset: "CaseDataset", source: Path | None, output: Path) -> None:
    names = ", ".join(dataset.labelled.names)
    plan = f"would score {source} on {len(dataset.labelled)} labelled cases of {dataset.root} ({names}) into {output}"
    console.tell(plan)


def _score_table(scores: "ScoreTable") -> Table:
    from monai_transfer.evaluation.table import readable
    from monai_transfer.figures.report_tables import TITLES, figure_text

    shown = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
    table = Table(show_edge=False)
    table.add_column("")
    for metric in (*shown, "missed", "invented"):
        table.add_column(TITLES.get(metric, metric), justify="right", no_wrap=True)
    for label, summary in scores.summaries.items():
        cells = [figure_text(metric, summary.mean[metric]) for metric in shown]
        table.add_row(readable(label), *cells, str(summary.missed), str(summary.invented))
    table.add_row("mean", *(figure_text(metric, scores.mean(metric)) for metric in shown), style="bold")
    return table
