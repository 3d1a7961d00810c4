"""``monai-transfer export``: a bundle's network as TorchScript or ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, TrustOption
from monai_transfer.options import ExportFormat


def export_command(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    format: Annotated[ExportFormat, typer.Option(help="torchscript or onnx.")] = "torchscript",
    output: Annotated[
        Path | None, typer.Option(help="File to write; models/model.ts or models/model.onnx of the bundle by default.")
    ] = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle's network as one file that runs without this package, and check that it computes the same.

    The file takes any number of windows at once. It is kept only where its logits are within 0.001 of the network's
    and more than 99.99 % of the labels are equal.

    Example: monai-transfer export --bundle bundles/organs --format onnx
    """
    trusted = console.settle_trust([bundle], trust=trust)

    from monai_transfer.workflows.exporting import export_bundle

    exported = export_bundle(bundle, format=format, output=output, trust=trusted)
    if as_json:
        console.emit_json(exported.as_json())
    else:
        window = " × ".join(map(str, exported.window[1:]))
        console.tell(
            f"{exported.file}: windows of {window} voxels; logits within {exported.largest_difference:.1g} of the "
            f"network's, {100 * exported.equal_labels:.4g} % of the labels equal."
        )
