"""``monai-transfer diagnose``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    TrustOption,
)
from monai_transfer.cli.progress import case_progress


def diagnose_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images, folders of images, or a list.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder of train or finetune --task diagnosis.")],
    output: Annotated[Path, typer.Option(help="Folder of the results.")],
    explain: Annotated[
        Literal["gradcam", "gradcam++", "occlusion", "none"], typer.Option(help="How maps of attention are made.")
    ] = "gradcam",
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Name the class of images: calibrated probabilities, a decision, and where the network looked.

    Writes OUTPUT/diagnosis.csv, OUTPUT/diagnosis.json and OUTPUT/maps. One bad image stops nobody; the exit status is
    then 1.

    Example: monai-transfer diagnose radiographs/ --bundle bundles/pneumonia --output said
    """
    from monai_transfer.machine import choose_device
    from monai_transfer.volumes.volume import Reading
    from monai_transfer.workflows.diagnosing import diagnose, find_exams

    choose_device(device)
    trusted = console.settle_trust([bundle], trust=trust, dry_run=dry_run)
    if dry_run:
        for exam in find_exams(inputs):
            console.tell(str(exam.images[0]))
        return
    with case_progress("diagnosing") as progress:
        record = diagnose(
            inputs,
            bundle,
            output,
            explain=explain,
            device=device,
            reading=Reading(assume_affine, allow_irregular),
            trust=trusted,
            overwrite=overwrite,
            progress=progress,
        )
    failed = console.tell_failures(record["images"])
    if as_json:
        console.emit_json(record)
    else:
        done = len(record["images"]) - failed
        console.tell(f"{done} of {len(record['images'])} images diagnosed: {output / 'diagnosis.csv'}")
    if failed:
        raise typer.Exit(1)
