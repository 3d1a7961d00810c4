"""``monai-transfer benchmark scheduling``: what a cluster takes for a case, and what very many then cost."""

from typing import Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption
from monai_transfer.options import ScanSeconds, Tasks, WorkerPrice, checked


def scheduling(
    cluster: Annotated[
        str, typer.Option(help="local:N, tcp://HOST:PORT, slurm:N, pbs:N or kubernetes:N, as of segment.")
    ] = "local:2",
    tasks: Annotated[int, typer.Option(help="Empty cases.")] = 10_000,
    scan_seconds: Annotated[float, typer.Option(help="Seconds of a worker per scan, from a manifest.")] = 60.0,
    price: Annotated[float, typer.Option(help="Price of a worker per hour, in any currency.")] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Measure the scheduler's time for a case in which nothing is done, and work out hours and price of 10⁵ and 10⁶.

    Example: monai-transfer benchmark scheduling --cluster local:2 --scan-seconds 30 --price 0.05
    """
    from monai_transfer.benchmarks.scheduling import scheduling_cost

    report = scheduling_cost(
        cluster,
        tasks=checked(Tasks, tasks),
        seconds=checked(ScanSeconds, scan_seconds),
        price=checked(WorkerPrice, price),
        say=console.say,
    )
    if as_json:
        console.emit_json(report)
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

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
