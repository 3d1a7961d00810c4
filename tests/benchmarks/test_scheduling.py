"""The arithmetic of very many scans, and the scheduler's own time on a real cluster."""

from pathlib import Path

import pytest

from monai_transfer.benchmarks.scheduling import Costs, scan_seconds, scheduling_cost, seconds_per_scan

from ..inference.deadly import write_deadly_bundle, write_scans


def test_the_scheduler_bounds_the_workers() -> None:
    costs = Costs(seconds=10.0, scheduling=0.002, price=0.5)
    assert costs.most_workers == 5000
    # 36,000 scans of 10 s are 100 hours of a worker
    assert costs.of(36_000, workers=100) == {
        "scans": 36_000, "workers": 100, "hours": 1.0, "worker_hours": 100.0, "price": 50.0,
    }  # fmt: skip
    # twice as many workers as it serves do not halve the time: 36,000 × 2 ms
    assert costs.of(36_000, workers=10_000)["hours"] == 0.02
    assert [row["scans"] for row in costs.table()] == [100_000] * 3 + [1_000_000] * 3


def test_the_first_scan_of_each_worker_is_left_out() -> None:
    # two workers, each 10 s to begin with and 4 s for a scan
    assert seconds_per_scan([10.0, 10.0, 14.0, 14.0, 18.0, 18.0], workers=2) == 2.0


@pytest.mark.slow
def test_scans_are_timed_by_one_worker_and_by_two(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    bundle = write_deadly_bundle(tmp_path / "bundle")
    found = scan_seconds(write_scans(tmp_path / "scans", 8), bundle, workers=2, trust=True)
    assert set(found) == {1, 2}
    assert all(seconds > 0 for seconds in found.values())
    report = scheduling_cost("local:1", tasks=100, measured=found)
    assert report["speed_up"] == pytest.approx(found[1] / found[2], abs=0.3)
    assert report["scan_seconds"] == round(found[1], 3)


@pytest.mark.slow
def test_empty_cases_on_a_cluster() -> None:
    pytest.importorskip("distributed")
    report = scheduling_cost("local:1", tasks=200, seconds=30.0)
    assert (report["workers"], report["tasks"]) == (1, 200)
    assert 0 < report["milliseconds_per_case"] < 1000
    assert report["most_workers"] == pytest.approx(30 / (report["seconds"] / 200), rel=0.02)
