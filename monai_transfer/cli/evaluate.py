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
)
from monai_transfer.cli.progress import case_progress
from monai_transfer.options import split_list

if TYPE_CHECKING:
    from monai_transfer.evaluation import ScoreTable
    from monai_transfer.workflows.diagnosis_evaluation import DiagnosisEvaluation
    from monai_transfer.workflows.evaluation import Evaluation


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
    sensitivity, calibration, with intervals; one that does both writes these into OUTPUT/diagnosis, where DATA has a
    list of diagnoses.

    Example: monai-transfer evaluate --bundle bundles/organs --data test_set --output scores
    """
    from monai_transfer.machine import require_device
    from monai_transfer.options import Tolerance, checked
    from monai_transfer.volumes.volume import Reading

    checked(Tolerance, tolerance)
    require_device(device)
    reading, names = Reading(assume_affine, allow_irregular), split_list(cases)
    trusted = bundle is not None and console.settle_trust([bundle], trust=trust, dry_run=dry_run)

    from monai_transfer.workflows.evaluation import cases_to_score, evaluate

    if dry_run:
        chosen = cases_to_score(data, bundle, cases=names, reading=reading)
        listed = ", ".join(chosen.names)
        console.tell(
            f"would score {bundle or predictions} on {len(chosen)} labelled cases of {data} ({listed}) into {output}"
        )
        return
    evaluation = evaluate(
        data,
        output,
        bundle=bundle,
        predictions=predictions,
        cases=names,
        reading=reading,
        nsd_tolerance_mm=tolerance,
        device=device,
        trust=trusted,
        progress=case_progress,
    )
    _show(evaluation, as_json=as_json)
    if not evaluation.complete:
        raise typer.Exit(1)


def _show(evaluation: "Evaluation | DiagnosisEvaluation", *, as_json: bool) -> None:
    for reason in evaluation.record["failures"].values():
        console.error(reason)
    if as_json:
        console.emit_json(evaluation.record)
    else:
        if (table := getattr(evaluation, "table", None)) is not None:  # a bundle that names classes has none
            console.out.print(_score_table(table))
        console.tell(str(evaluation.record["headline"]), f"report: {evaluation.files[0]}")
    for warning in evaluation.record["warnings"]:
        console.note(warning)


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
