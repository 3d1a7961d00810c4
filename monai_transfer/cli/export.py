"""``monai-transfer export``: a bundle's network as TorchScript or ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import AllowIrregularOption, AssumeAffineOption, JsonOption, TrustOption
from monai_transfer.errors import UserError
from monai_transfer.options import ExportFormat, LargestLoss, checked, refuse_given


def export_command(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    format: Annotated[
        ExportFormat | None, typer.Option(help="torchscript (the default) or onnx.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write; models/model.ts or models/model.onnx of the bundle by default.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="ONNX with eight-bit convolutions, models/model_int8.onnx by default.")
    ] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="With --int8: labelled cases that set its ranges and on which it is scored.")
    ] = None,
    largest_loss: Annotated[float, typer.Option(help="Mean Dice that --int8 may cost.")] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="Write the file of --int8 whatever it costs.")] = False,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle's network as one file that runs without this package, and check that it computes the same.

    The file takes any number of windows at once. It is kept only where its logits are within 0.001 of the network's
    and more than 99.99 % of the labels are equal; with --int8 where the mean Dice falls by no more than 0.01.

    Example: monai-transfer export --bundle bundles/organs --format onnx
    """
    if int8 != (calibrate is not None):
        raise UserError("--int8 and --calibrate belong together: give both, with a folder of labelled cases.")
    if int8 and format == "torchscript":
        raise UserError("--int8 writes ONNX: omit --format torchscript.")
    checked(LargestLoss, largest_loss)
    reads = {"assume_affine": assume_affine, "allow_irregular": allow_irregular}
    refuse_given({} if int8 else reads, "{} is for the cases of --calibrate: omit it.")
    trusted = console.settle_trust([bundle], trust=trust)
    if calibrate is not None:
        how = {"force": force, "trust": trusted, "as_json": as_json}
        _quantized(bundle, calibrate, output, largest_loss, reads, **how)
        return

    from monai_transfer.workflows.exporting import export_bundle

    exported = export_bundle(bundle, format=format or "torchscript", output=output, trust=trusted)
    if as_json:
        console.emit_json(exported.as_json())
    else:
        window = " × ".join(map(str, exported.window[1:]))
        console.tell(
            f"{exported.file}: windows of {window} voxels; logits within {exported.largest_difference:.1g} of the "
            f"network's, {100 * exported.equal_labels:.4g} % of the labels equal."
        )


def _quantized(
    bundle: Path,
    data: Path,
    output: Path | None,
    largest_loss: float,
    reads: Mapping[str, bool],
    *,
    force: bool,
    trust: bool,
    as_json: bool,
) -> None:
    from monai_transfer.volumes.volume import Reading
    from monai_transfer.workflows.quantizing import export_int8

    how: dict[str, Any] = {"largest_loss": largest_loss, "reading": Reading(**reads), "force": force, "trust": trust}
    found = export_int8(bundle, data, output=output, **how, say=console.say)
    if as_json:
        console.emit_json(found.as_json())
    else:
        console.tell(
            f"{found.file}: mean Dice {found.dice:.3f} in float32 and {found.dice_int8:.3f} in eight bits on "
            f"{found.cases} case(s), {100 * found.equal_labels:.4g} % of the labels equal, {found.size_ratio:.2f} of "
            "the float32 file's bytes."
        )
