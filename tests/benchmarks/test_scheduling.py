"""The arithmetic of very many scans, and the scheduler's own time on a real cluster."""

import pytest

from monai_transfer.benchmarks.scheduling import Costs, scheduling_cost


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


@pytest.mark.slow
def test_empty_cases_on_a_cluster() -> None:
    pytest.importorskip("distributed")
    report = scheduling_cost("local:1", tasks=200, seconds=30.0)
    assert (report["workers"], report["tasks"]) == (1, 200)
    assert 0 < report["milliseconds_per_case"] < 1000
    assert report["most_workers"] == pytest.approx(30 / (report["seconds"] / 200), rel=0.02)
