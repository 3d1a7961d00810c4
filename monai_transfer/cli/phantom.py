"""``monai-transfer phantom``: a labelled data set without patients."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, SeedOption
from monai_transfer.cli.progress import case_progress


class PhantomModality(StrEnum):
    """What the scanner is."""

    ct = "ct"
    mr = "mr"
    xray = "xray"


def phantom(
    output: Annotated[Path, typer.Option(help="Folder to write images/, labels/ and dataset.json to.")],
    modality: Annotated[PhantomModality, typer.Option(help="CT in Hounsfield units, T1-like MR, or radiographs.")],
    subjects: Annotated[int, typer.Option(help="How many people.")] = 8,
    seed: SeedOption = 0,
    first: Annotated[int, typer.Option(help="Number of the first person, to extend a set.")] = 1,
    size: Annotated[float, typer.Option(help="Share of the usual voxels per axis (112x96x64 at 1).")] = 1.0,
    lesions: Annotated[
        bool, typer.Option("--lesions", help="Give every second person a lesion of the liver, for diagnosis.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write labelled torso phantoms as NIfTI: liver, spleen, kidneys, aorta.

    With --lesions OUTPUT/diagnosis.csv says who has one. Radiographs are PNG in a folder per finding: healthy, mass,
    pneumonia.

    Example: monai-transfer phantom --output phantoms/ct --modality ct --subjects 8
    """
    from monai_transfer import phantoms

    with case_progress("phantoms") as progress:
        if modality is PhantomModality.xray:
            names = phantoms.write_radiographs(
                output, subjects=subjects, seed=seed, first=first, size=size, progress=progress
            )
        else:
            names = phantoms.write_phantoms(
                output,
                modality="ct" if modality is PhantomModality.ct else "mr",
                subjects=subjects,
                seed=seed,
                first=first,
                size=size,
                lesions=lesions,
                progress=progress,
            )
    if as_json:
        console.emit_json({"output": str(output), "modality": modality.value, "seed": seed, "cases": names})
    else:
        console.say(f"{len(names)} {modality.value.upper()} phantoms in {output}")
