"""``monai-transfer segment``."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    ClusterOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    TrustOption,
)
from monai_transfer.errors import Interrupted, UserError
from monai_transfer.options import LabelFormat, Precision, Runtime, split_list
from monai_transfer.progress import LINES, tell_progress
from monai_transfer.text import one_line

if TYPE_CHECKING:
    from monai_transfer.workflows.segmenting import CaseProgress


def segment_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Volumes, folders, DICOM series, s3://...")],
    bundle: Annotated[list[Path], typer.Option(help="Bundle folder, zoo:NAME or hf:REPO; several: an ensemble.")],
    output: Annotated[Path, typer.Option(help="Folder of the results.")],
    labels: Annotated[str | None, typer.Option(help="Only these labels, separated by commas: liver,spleen.")] = None,
    device: DeviceOption = "auto",
    precision: Annotated[Precision, typer.Option(help="float32, bfloat16 or float16 (GPU).")] = "float32",
    runtime: Annotated[
        Runtime, typer.Option(help="What computes the network: auto, torch, openvino or onnx (CPU).")
    ] = "auto",
    fast: Annotated[bool, typer.Option("--fast", help="Fewer windows: they overlap by an eighth at most.")] = False,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty/--all-windows", help="Leave out windows that hold only air.")
    ] = True,
    correct: Annotated[
        bool, typer.Option("--correct/--uncorrected", help="Correct labels of adapted bundles by anatomy.")
    ] = True,
    mirror: Annotated[bool, typer.Option("--mirror", help="Test-time augmentation: average all mirrorings.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write class probabilities.")] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Also write the entropy, 0 to 1.")] = False,
    estimate_dice: Annotated[
        bool, typer.Option("--estimate-dice", help="Estimate each label's Dice; tell unusual images.")
    ] = False,
    dicom_seg: Annotated[
        bool, typer.Option("--dicom-seg", help="Also write a DICOM SEG of each DICOM series.")
    ] = False,
    format: Annotated[
        LabelFormat, typer.Option(help="Of the label maps: nifti, nrrd, seg.nrrd, mha, mgz, or same as the input's.")
    ] = "nifti",
    bids: Annotated[bool, typer.Option("--bids", help="BIDS data sets in, BIDS derivatives out.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Also write a file for each label.")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Measure volume and intensity of each label: statistics.csv.")
    ] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Also write a PNG with outlines.")] = False,
    largest_component: Annotated[
        list[str] | None, typer.Option(help="Label of which only the largest piece is kept, or 'all'.")
    ] = None,
    fill_holes: Annotated[bool, typer.Option("--fill-holes", help="Fill holes in the labels.")] = False,
    smallest_ml: Annotated[float, typer.Option(help="Drop pieces smaller than this many millilitres.")] = 0.0,
    batch: Annotated[int | None, typer.Option(help="Windows per forward pass.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Adapt the network to these inputs first, without labels; the bundle stays as it is."
        ),
    ] = False,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    keep_header_text: Annotated[
        bool, typer.Option("--keep-header-text", help="Keep a NIfTI header's free text, which may name the patient.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Keep cases that are finished already.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="The i-th of n shares of the cases, i/n, for arrays of jobs: 3/16.")
    ] = None,
    cluster: ClusterOption = None,
    trust: TrustOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Segment volumes with a bundle: label maps on the grid of each input, volumes in ml, a manifest.

    Reads NIfTI, MGH, NRRD, MetaImage and DICOM series; writes OUTPUT/CASE.nii.gz with the header of the input,
    label names and colours, and OUTPUT/manifest.json. One bad input stops nobody; the exit status is then 1, and 2
    where every input failed.

    Example: monai-transfer segment scans/ ct.nii.gz --bundle bundles/organs --output labels --preview
    """
    from monai_transfer.inference.segmentation import Cleaning, SegmentOptions
    from monai_transfer.machine import require_device
    from monai_transfer.volumes.volume import Reading

    options = SegmentOptions(
        labels=tuple(split_list(labels)) if labels else (),
        precision=precision,
        runtime=runtime,
        fast=fast,
        skip_empty=skip_empty,
        correct=correct,
        probabilities=probabilities,
        uncertainty=uncertainty,
        estimate_dice=estimate_dice,
        dicom_seg=dicom_seg,
        masks=masks,
        format=format,
        bids=bids,
        statistics=statistics,
        mirror_axes=(0, 1, 2) if mirror else (),
        batch=batch,
        compile=compile,
        cleaning=Cleaning(tuple(largest_component or ()), fill_holes, smallest_ml),
        reading=Reading(assume_affine, allow_irregular, keep_header_text),
    )
    share = read_shard(shard)
    require_device(device)
    trusted = console.settle_trust(bundle, trust=trust, dry_run=dry_run)
    if dry_run:
        from monai_transfer.inference.case_work import planned_results

        made, left_out = planned_results(inputs, output, options, share=share or (0, 1))
        if as_json:
            console.emit_json([{"input": path, "output": result} for path, result in made.items()])
        for path, result in () if as_json else made.items():
            console.tell(f"{path} -> {result}")
        for sentence in left_out:
            console.note(sentence)
        return

    from monai_transfer.inference.case_work import url_of
    from monai_transfer.workflows.segmenting import segment

    with SegmentBar() as bar:
        try:
            manifest = segment(
                inputs,
                bundle,
                output,
                device=device,
                options=options,
                adapt=adapt,
                trust=trusted,
                say=console.say,
                preview=preview,
                resume=resume,
                overwrite=overwrite,
                shard=share,
                cluster=cluster,
                progress=bar.show,
            )
        except Interrupted as stop:
            raise Interrupted(
                f"Interrupted; what is finished is kept in {url_of(output) or output}: give the same command with "
                "--resume to go on.",
                stop.signal,
            ) from None
    for skipped in manifest["skipped"]:
        console.note(f"{skipped['input']} was left out: {skipped['reason']}.")
    for case in manifest["cases"]:
        if case.get("absent_channels"):
            console.note(case["warnings"][0])
        for reason in case.get("unlike", ()):
            console.note(f"{case['input']} may be wrongly segmented: {reason}.".replace("?.", "?"))
    failed = console.tell_failures(manifest["cases"])
    if as_json:
        console.emit_json(manifest)
    else:
        done = len(manifest["cases"]) - failed
        console.tell(f"{done} of {len(manifest['cases'])} volumes segmented into {url_of(output) or output}")
    if failed:
        raise typer.Exit(1 if failed < len(manifest["cases"]) else 2)


def read_shard(text: str | None) -> tuple[int, int] | None:
    """``"3/16"`` -> ``(2, 16)``, the number counted from 0.

    Raises:
        UserError: the text is not of that form.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {text} is not possible: give i/n with i from 1 to n, such as 3/16.")
    return int(match[1]) - 1, int(match[2])


class SegmentBar:
    """A progress bar on standard error: case, window, time left. Silent where that is not a terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=console.err,
            disable=not console.draws_bars(),
        )
        self.task = self.progress.add_task("Reading", total=None, unit="windows")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, step: "CaseProgress") -> None:
        """Show where the run stands."""
        if LINES in os.environ:
            window = {"windows_done": step.windows_done, "windows": step.windows} if step.windows else {}
            whole = step.windows_done >= step.windows  # between two cases the next one counts as begun
            tell_progress("segmenting", step.number - (not whole), step.cases, name=step.name, **window)
        self.progress.update(
            self.task,
            description=f"{one_line(step.name)} ({step.number}/{step.cases})",
            # of cases on a cluster nobody sees the windows
            completed=step.windows_done if step.windows else step.number,
            total=step.windows or step.cases,
            unit="windows" if step.windows else "cases",
        )
