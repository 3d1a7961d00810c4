"""Grid and steps for the minutes that are there."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from monai_transfer.bundle import pacing
from monai_transfer.bundle.pacing import ADAPTED, LOOP, Pace, seconds_of_step
from monai_transfer.bundle.plan import Plan, make_plan
from monai_transfer.datasets import Fingerprint
from monai_transfer.errors import UserError

BODY = Fingerprint(
    spacing=(1.0, 1.0, 2.0),
    shape=(400.0, 320.0, 150.0),
    extent_mm=(400.0, 320.0, 300.0),
    largest_mm=(400.0, 320.0, 300.0),
    intensity={},
    channel_intensity=(),
    modality="ct",
    label_values=(0, 1, 2),
    label_volumes_ml={1: 100.0, 2: 10.0},
    cases=10,
    labelled=10,
    spacing_range=((1.0, 1.0, 2.0), (1.0, 1.0, 2.0)),
)
make = partial(
    make_plan,
    BODY,
    None,
    label_names={0: "background", 1: "a", 2: "b"},
    device=torch.device("cpu"),
    channel_dropout=0.0,
)
PER_VOXEL = 1e-6
"""Seconds of a step for each voxel of a window, in these tests."""


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "seconds_of_step", lambda plan, channels, threads: PER_VOXEL * math.prod(plan.roi_size))


def seconds(plan: Plan) -> float:
    return LOOP * plan.steps * PER_VOXEL * math.prod(plan.roi_size)


@pytest.mark.parametrize("minutes", [2, 5, 20, 60, 600])
def test_the_time_is_kept(minutes: float) -> None:
    assert seconds(Pace(minutes).plan(make, channels=1)) <= 60 * minutes


def test_more_time_means_a_finer_grid_then_more_steps() -> None:
    plans = [Pace(minutes).plan(make, channels=1) for minutes in (2, 5, 20, 60, 600)]
    grids = [plan.spacing[0] for plan in plans]
    assert grids == sorted(grids, reverse=True)
    assert grids[0] > make().spacing[0] > grids[-1]
    assert plans[-1].steps == 3000  # of 1000 usual ones: the grid can become no finer


def test_time_that_cannot_be_used_is_told(caplog: pytest.LogCaptureFixture) -> None:
    used = seconds(Pace(600).plan(make, channels=1)) / 60
    assert caplog.messages == [
        f"Of --minutes 600 about {math.ceil(used)} are used: beyond 3000 steps on the finest grid that is planned more "
        "bring next to nothing; --spacing makes it finer."
    ]
    caplog.clear()
    Pace(60).plan(make, channels=1)
    assert not caplog.messages


def test_usual_time_gives_the_usual_grid() -> None:
    minutes = LOOP * make().steps * PER_VOXEL * math.prod(make().roi_size) / 60
    assert Pace(0.7 * minutes).plan(make, channels=1).spacing == make().spacing
    assert Pace(1.01 * minutes).plan(make, channels=1).spacing == make().spacing


def test_a_grid_that_is_given_stays() -> None:
    plan = Pace(60).plan(partial(make, spacing=(8.0, 8.0, 8.0)), channels=1)
    assert plan.spacing == (8.0, 8.0, 8.0)
    assert seconds(plan) <= 3600


def test_an_adaptation_is_three_trainings() -> None:
    alone = Pace(60).plan(make, channels=1)
    together = Pace.of_adaptation(60 * (2 + ADAPTED), oracle=True).plan(make, channels=1)
    assert (together.spacing, together.steps) == (alone.spacing, alone.steps)


def test_side_by_side_the_longest_training_counts_at_a_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def step(plan: Plan, channels: int, threads: int) -> float:
        used.append(threads)
        return PER_VOXEL * math.prod(plan.roi_size)

    monkeypatch.setattr(pacing, "seconds_of_step", step)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    alone = Pace(60).plan(make, channels=1)
    beside = Pace.of_adaptation(60 * ADAPTED, oracle=True, jobs=2).plan(make, channels=1)
    assert (beside.spacing, beside.steps) == (alone.spacing, alone.steps)
    assert Pace.of_adaptation(60, oracle=False, jobs=5).at_once == 2
    assert used == [8, 4]


def test_too_short() -> None:
    with pytest.raises(UserError, match=r"--minutes 0\.1 is too short for this machine: give at least \d+\."):
        Pace(0.1).plan(make, channels=1)
    with pytest.raises(UserError, match=r"--minutes 0\.0 is not possible"):
        Pace(0.0)


def test_what_was_begun_is_kept(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    train = {"max_epochs": 20, "steps_per_epoch": 25, "spacing": [6.0, 6.0, 6.0]}
    (tmp_path / "configs/train.json").write_text(json.dumps(train))
    plan = Pace(600, begun=tmp_path).plan(make, channels=1)
    assert (plan.spacing, plan.steps) == ((6.0, 6.0, 6.0), 500)
    assert Pace(600, begun=tmp_path / "nothing").plan(make, channels=1).steps > 500


def test_a_step_is_measured_and_moves_no_random_numbers() -> None:
    before = torch.get_rng_state()
    assert 0 < seconds_of_step(make(spacing=(16.0,) * 3, batch_size=1), 1, 1) < 60
    assert torch.equal(torch.get_rng_state(), before)
