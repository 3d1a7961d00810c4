"""``monai-transfer weights``: the catalogue, what a file holds, and what of it a network would take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, TrustOption
from monai_transfer.errors import UserError
from monai_transfer.options import Channels, Dimensions, Share, checked

if TYPE_CHECKING:
    from torch.nn import Module

    from monai_transfer.weights import Checkpoint, LoadReport

weights = typer.Typer(
    help="Pretrained weights: what there is, what a file holds, what would load.", no_args_is_help=True
)

SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="medicalnet:resnet18, imagenet:vgg16, hf:REPO/FILE, a file or a bundle.")
]
CacheOption = Annotated[Path | None, typer.Option(help="Folder of fetched weights.", show_default=False)]


@weights.command("list")
def list_weights(as_json: JsonOption = False) -> None:
    """List the published weights that are known by name.

    Example: monai-transfer weights list
    """
    from monai_transfer.weights import CATALOGUE, cache_folder
    from monai_transfer.weights.fetching import is_here

    folder = cache_folder()
    if as_json:
        console.emit_json([asdict(entry) | {"cached": is_here(entry, folder)} for entry in CATALOGUE])
        return
    table = Table(title="Published weights", title_justify="left")
    for column in ("SPEC", "network", "MB", "SHA-256", "licence", "here"):
        table.add_column(column, justify="right" if column == "MB" else "left", no_wrap=column == "SPEC")
    for entry in CATALOGUE:
        size = f"{entry.megabytes:.0f}" if entry.megabytes else "?"
        here = "no, see below" if entry.refusal else "yes" if is_here(entry, folder) else ""
        table.add_row(entry.name, entry.network, size, (entry.sha256 or "")[:8], entry.licence.split(" (")[0], here)
    console.out.print(table)
    for entry in CATALOGUE:
        if entry.refusal:
            console.tell(f"{entry.name}: {entry.refusal}.")
    console.tell(f"Fetched files are kept in {folder}.")


@weights.command("inspect")
def inspect(spec: SpecArgument, cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """Say what a weights file holds: its layout, and every tensor with its shape.

    Example: monai-transfer weights inspect medicalnet:resnet18
    """
    from monai_transfer.weights import locate

    with _fetch_progress(spec) as progress:
        path = locate(spec, cache=cache, progress=progress)

    from monai_transfer.weights import read_checkpoint, recognise

    checkpoint = read_checkpoint(path)
    layout = recognise(checkpoint.tensors)
    if as_json:
        console.emit_json(_contents(checkpoint, layout.description))
        return
    table = Table(title=f"{checkpoint.path}: {layout.description}", title_justify="left")
    for column in ("tensor", "shape", "type"):
        table.add_column(column)
    for name, tensor in checkpoint.tensors.items():
        table.add_row(name, "×".join(map(str, tensor.shape)) or "1", str(tensor.dtype).removeprefix("torch."))
    console.out.print(table)
    values = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    under = f", under {checkpoint.wrapper!r}" if checkpoint.wrapper else ""
    console.tell(f"{len(checkpoint.tensors)} tensors, {values / 1e6:.2f} million values{under}.")


@weights.command("verify")
def verify(
    spec: SpecArgument,
    network: Annotated[
        str | None, typer.Option(help="Backbone of FlexibleUNet, such as resnet18, or swin_unetr.", show_default=False)
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Take the bundle's own network.", show_default=False)] = None,
    spatial_dims: Annotated[int, typer.Option(help="Dimensions of --network, 2 or 3.")] = 3,
    in_channels: Annotated[int, typer.Option(help="Image channels of --network.")] = 1,
    minimum: Annotated[float, typer.Option(help="Smallest share of the encoder that must be covered.")] = 0.9,
    cache: CacheOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what of a file a network would take, tensor by tensor, without training. Exit status 1 when too little.

    Example: monai-transfer weights verify medicalnet:resnet18 --network resnet18
    """
    from monai_transfer.weights import locate

    if (network is None) == (bundle is None):
        raise UserError("Name what the weights are for: either --network (such as resnet18) or --bundle.")
    for kind, value in ((Dimensions, spatial_dims), (Channels, in_channels), (Share, minimum)):
        checked(kind, value)
    with _fetch_progress(spec) as progress:
        locate(spec, cache=cache, progress=progress)

    from monai_transfer.weights import bundle_label_names, load_pretrained, network_named

    if bundle is not None:
        built, names = _network_of(bundle, trust=trust), bundle_label_names(bundle)
    else:
        built, names = network_named(str(network), spatial_dims=spatial_dims, in_channels=in_channels), {}
    report = load_pretrained(built, spec, label_names=names or None, cache=cache, dry_run=True)
    enough = report.encoder_share >= minimum
    if as_json:
        console.emit_json(report.as_dict() | {"enough": enough})
    else:
        print_load_report(report)
    if not enough:
        raise typer.Exit(1)


def _network_of(bundle: Path, *, trust: bool) -> "Module":
    from monai_transfer.bundle.networks import read_network
    from monai_transfer.bundle.trust import UntrustedBundleError

    try:
        return read_network(bundle, trust=trust)
    except UntrustedBundleError as refusal:
        return read_network(bundle, trust=console.ask_trust(refusal.root, refusal.concerns, trust=trust))


def print_load_report(report: "LoadReport") -> None:
    """Print the table of a load report, its remarks and its sentence."""
    console.out.print(report.table())
    console.tell(*report.remarks(), report.summary())


def _contents(checkpoint: "Checkpoint", layout: str) -> dict[str, Any]:
    return {
        "path": str(checkpoint.path),
        "layout": layout,
        "wrapper": checkpoint.wrapper,
        "label_names": dict(checkpoint.label_names),
        "tensors": {name: list(tensor.shape) for name, tensor in checkpoint.tensors.items()},
    }


@contextmanager
def _fetch_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback of (bytes here, bytes in all) that draws a bar on standard error, if that is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console.err, disable=not console.err.is_terminal, transient=True) as bar:
        task = bar.add_task(f"fetching {title}", total=None, visible=False)

        def update(here: int, total: int) -> None:
            bar.update(task, completed=here, total=total or None, visible=True)

        yield update
