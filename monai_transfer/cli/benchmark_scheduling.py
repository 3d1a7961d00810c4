"""``monai-transfer benchmark scheduling``: what a cluster takes for a case, and what very many then cost."""

from pathlib import Path
from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, TrustOption
from monai_transfer.errors import UserError
from monai_transfer.options import Jobs, ScanSeconds, Tasks, WorkerPrice, checked


def scheduling(
    cluster: Annotated[
        str, typer.Option(help="local:N, tcp://HOST:PORT, slurm:N, pbs:N or kubernetes:N, as of segment.")
    ] = "local:2",
    tasks: Annotated[int, typer.Option(help="Empty cases.")] = 10_000,
    scan_seconds: Annotated[float, typer.Option(help="Seconds of a worker per scan, from a manifest.")] = 60.0,
    price: Annotated[float, typer.Option(help="Price of a worker per hour, in any currency.")] = 0.05,
    bundle: Annotated[
        Path | None, typer.Option(help="With --scans: measure the seconds of one worker and of --workers instead.")
    ] = None,
    scans: Annotated[Path | None, typer.Option(help="Folder of scans to measure with.")] = None,
    workers: Annotated[int, typer.Option(help="Workers of this machine to measure with, one thread each.")] = 2,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the scheduler's time for a case in which nothing is done, and work out hours and price of 10⁵ and 10⁶.

    Example: monai-transfer benchmark scheduling --cluster local:2 --scan-seconds 30 --price 0.05
    """
    from monai_transfer.benchmarks.scheduling import scan_seconds as measure
    from monai_transfer.benchmarks.scheduling import scheduling_cost

    if (bundle is None) != (scans is None):
        raise UserError("--bundle and --scans belong together: give both, or --scan-seconds.")
    measured = None
    if bundle is not None and scans is not None:
        trusted = console.settle_trust([bundle], trust=trust, dry_run=False)
        measured = measure(scans, bundle, workers=checked(Jobs, workers), trust=trusted, say=console.say)
    report = scheduling_cost(
        cluster,
        tasks=checked(Tasks, tasks),
        seconds=checked(ScanSeconds, scan_seconds),
        price=checked(WorkerPrice, price),
        measured=measured,
        say=console.say,
    )
    console.emit_measured(report, _show, as_json=as_json)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    for workers, seconds in report["measured_seconds"].items():
        console.tell(f"{seconds:g} s from scan to scan by {workers} worker(s) with one thread each.")
    if report["speed_up"] is not None:
        console.tell(f"{report['speed_up']:g} times as fast by all as by one.")
    console.tell(
        f"{report['milliseconds_per_case']:.2f} ms of the scheduler per case ({report['tasks']} empty cases, "
        f"{report['workers']} workers): it keeps {report['most_workers']} workers busy at "
        f"{report['scan_seconds']:g} s per scan."
    )
    table = Table("scans", "workers", "hours", "worker hours", "price", title="What very many scans cost")
    for row in report["costs"]:
        table.add_row(*(f"{row[name]:,}" for name in ("scans", "workers", "hours", "worker_hours", "price")))
    console.out.print(table)
    published = report["published"]
    console.tell(
        f"Published: {published['scans']:,} CTs on {published['machines']:,} machines within {published['hours']:g} h "
        f"for {published['dollars']:,.0f} US$, {published['dollars_per_scan']:.3f} US$ per scan."
    )
