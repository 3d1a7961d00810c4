"""``monai-transfer explain``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import AllowIrregularOption, AssumeAffineOption, DeviceOption, JsonOption, TrustOption
from monai_transfer.cli.progress import case_progress


def explain_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Volumes, or folders of volumes.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder that segments.")],
    output: Annotated[Path, typer.Option(help="Folder of the results.")],
    label: Annotated[list[str] | None, typer.Option(help="Name of a label; several times for several.")] = None,
    method: Annotated[
        Literal["gradcam", "gradcam++", "occlusion"], typer.Option(help="How maps of attention are made.")
    ] = "gradcam",
    device: DeviceOption = "auto",
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    trust: TrustOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where a network that segments looked for each label.

    Writes OUTPUT/CASE_LABEL.nii.gz on the grid of the input, 0 to 1, and OUTPUT/explanation.html. One bad volume stops
    nobody; the exit status is then 1. For diagnosis, diagnose makes such maps.

    Example: monai-transfer explain scan.nii.gz --bundle bundles/organs --output why --label liver
    """
    from monai_transfer.volumes.volume import Reading
    from monai_transfer.workflows.explaining import PAGE, explain

    trusted = console.settle_trust([bundle], trust=trust, dry_run=False)
    with case_progress("explaining") as progress:
        record = explain(
            inputs,
            bundle,
            output,
            labels=label or (),
            method=method,
            device=device,
            reading=Reading(assume_affine, allow_irregular),
            trust=trusted,
            overwrite=overwrite,
            progress=progress,
        )
    failed = console.tell_failures(record["volumes"])
    if as_json:
        console.emit_json(record)
    else:
        console.tell(f"{sum(len(entry['maps']) for entry in record['volumes'])} maps: {output / PAGE}")
    if failed:
        raise typer.Exit(1)
