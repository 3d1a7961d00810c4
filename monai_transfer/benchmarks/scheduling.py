"""What a cluster's scheduler costs per case, and what 10⁵ to 10⁶ scans then cost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monai_transfer.errors import UserError
from monai_transfer.machine import hardware, versions
from monai_transfer.workflows.cluster import connected
from monai_transfer.workflows.segmenting import segment

PUBLISHED = {"scans": 126_000, "machines": 21_000, "hours": 9.0, "dollars": 1011.0, "dollars_per_scan": 0.008}
"""A published run to stand beside: 126,000 CTs on 21,000 rented machines within 9 hours for 1,011 US$."""

_SCANS = (100_000, 1_000_000)


def _nothing(number: int) -> int:
    return number


@dataclass(frozen=True)
class Costs:
    """What a scan costs.

    Attributes:
        seconds: of one worker per scan, as ``seconds`` of a manifest or of ``benchmark inference`` say.
        scheduling: seconds of the scheduler per scan.
        price: of one worker per hour, in any currency.

    Example:
        >>> costs = Costs(seconds=36.0, scheduling=0.001, price=0.1)
        >>> costs.of(1000, workers=10)
        {'scans': 1000, 'workers': 10, 'hours': 1.0, 'worker_hours': 10.0, 'price': 1.0}
    """

    seconds: float
    scheduling: float
    price: float

    @property
    def most_workers(self) -> int:
        """So many workers one scheduler keeps busy."""
        return max(1, int(self.seconds / self.scheduling))

    def of(self, scans: int, *, workers: int) -> dict[str, float]:
        """Hours and price of so many scans on so many workers; more than one scheduler serves wait for it."""
        hours = scans * max(self.seconds / workers, self.scheduling) / 3600
        worker_hours = scans * self.seconds / 3600
        return {
            "scans": scans,
            "workers": workers,
            "hours": round(hours, 2),
            "worker_hours": round(worker_hours, 1),
            "price": round(worker_hours * self.price, 2),
        }

    def table(self) -> list[dict[str, float]]:
        """The rows of 10⁵ and 10⁶ scans on 10, 100 and 1,000 workers."""
        return [self.of(scans, workers=workers) for scans in _SCANS for workers in (10, 100, 1000)]


def seconds_per_scan(moments: Sequence[float], workers: int) -> float:
    """Seconds from scan to scan; the first of each worker, which also reads the network, is left out.

    Args:
        moments: when each scan was done, in seconds, in their order.
        workers: that shared them.

    Example:
        >>> seconds_per_scan([9.0, 10.0, 12.0, 14.0], workers=2)
        2.0
    """
    return (moments[-1] - moments[workers - 1]) / (len(moments) - workers)


def scan_seconds(
    scans: Path, bundle: Path, *, workers: int, trust: bool = False, say: Callable[[str], None] = lambda message: None
) -> dict[int, float]:
    """Measure the seconds from scan to scan of one worker of this machine and of several, each with one thread.

    Args:
        scans: folder of the scans, at least four times as many as workers.
        bundle: the network.
        workers: how many.
        trust: let a bundle that was not made here run whatever code it names.
        say: called with a sentence.

    Returns:
        workers -> seconds per scan.

    Raises:
        UserError: there are too few scans, or one cannot be segmented.
    """
    found = {}
    for number in dict.fromkeys((1, workers)):
        moments: list[float] = []
        say(f"The scans of {scans} by {number} worker(s)")
        with TemporaryDirectory() as folder:
            result = segment(
                scans, bundle, folder, device="cpu", trust=trust, cluster=f"local:{number}",
                progress=lambda step, moments=moments: moments.append(time.perf_counter()),  # type: ignore[misc]
            )  # fmt: skip
        failed = [case["error"] for case in result["cases"] if case["status"] != "ok"]
        if failed:
            raise UserError(failed[0])
        if len(moments) < 4 * workers:
            raise UserError(f"{scans} has {len(moments)} scans: name at least {4 * workers} for {workers} workers.")
        found[number] = seconds_per_scan(moments, number)
    return found


def scheduling_cost(
    cluster: str,
    *,
    tasks: int = 10_000,
    seconds: float = 60.0,
    price: float = 0.05,
    measured: dict[int, float] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Measure the seconds that a cluster takes for a case in which nothing is done.

    Args:
        cluster: as for :func:`~monai_transfer.workflows.cluster.connected`.
        tasks: empty cases.
        seconds: of one worker per scan, for the costs.
        price: of one worker per hour, for the costs.
        measured: of :func:`scan_seconds`; one worker's are taken in place of ``seconds``.
        say: called with a sentence.

    Raises:
        UserError: the cluster is not known or does not answer.
    """
    measured = {workers: round(each, 3) for workers, each in (measured or {}).items()}
    seconds = measured.get(1, seconds)
    with connected(cluster) as client:
        client.wait_for_workers(1)
        say(f"{tasks} empty cases on {cluster} ({client.dashboard_link})")
        client.gather(client.map(_nothing, range(100), key="warm-up"))
        begin = time.perf_counter()
        done = client.gather(client.map(_nothing, range(tasks), key="empty", pure=False))
        took = time.perf_counter() - begin
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
    assert done == list(range(tasks))
    costs = Costs(seconds, took / tasks, price)
    return {
        "cluster": cluster,
        "workers": workers,
        "tasks": tasks,
        "seconds": round(took, 3),
        "milliseconds_per_case": round(1000 * took / tasks, 3),
        "scan_seconds": seconds,
        "measured_seconds": measured,
        "speed_up": round(seconds / measured[max(measured)], 2) if len(measured) > 1 else None,
        "price_per_worker_hour": price,
        "most_workers": costs.most_workers,
        "costs": costs.table(),
        "published": PUBLISHED,
        "hardware": hardware(),
        "versions": versions(),
    }
