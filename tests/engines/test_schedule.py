"""The strength of the methods, the balance of the classes and the learning rate over a run."""

import math
from collections.abc import Callable

import pytest
import torch
from ignite.engine import Engine
from monai.optimizers import WarmupCosineSchedule
from torch.optim.lr_scheduler import LRScheduler

from monai_transfer.adaptation import SourceOnly
from monai_transfer.engines import BalanceSchedule, StrengthSchedule, TwoStageCosineSchedule, averaging_momentum
from monai_transfer.losses import ClassBalancedDiceCELoss


def test_linear_rises_between_warm_up_and_full_strength() -> None:
    schedule = StrengthSchedule([], warm_up=10, ramp=20)
    assert [schedule.strength(step) for step in (0, 9, 10, 20, 30, 500)] == [0, 0, 0, 0.5, 1, 1]


def test_no_ramp_jumps() -> None:
    schedule = StrengthSchedule([], warm_up=3)
    assert [schedule.strength(step) for step in (2, 3)] == [0, 1]


@pytest.mark.parametrize(
    ("shape", "expected"), [("sigmoid", math.exp(-5 * 0.25)), ("dann", 2 / (1 + math.exp(-5)) - 1)]
)
def test_published_curves_at_half_way(shape: str, expected: float) -> None:
    assert StrengthSchedule([], ramp=2, shape=shape).strength(1) == pytest.approx(expected)  # type: ignore[arg-type]


def test_it_sets_the_methods_before_each_step() -> None:
    method = SourceOnly()
    seen: list[float] = []
    engine = Engine(lambda engine, batch: seen.append(method.strength))
    StrengthSchedule([method], ramp=4).attach(engine)
    engine.run(range(5), max_epochs=1)
    assert seen == [0, 0.25, 0.5, 0.75, 1]


def test_the_class_balance_fades_to_none() -> None:
    loss = ClassBalancedDiceCELoss(2, gamma=0.5)
    seen: list[float] = []
    engine = Engine(lambda engine, batch: seen.append(loss.gamma))
    BalanceSchedule(loss, steps=4).attach(engine)
    engine.run(range(6), max_epochs=1)
    assert seen == pytest.approx([0.5, 0.375, 0.25, 0.125, 0, 0])


@pytest.mark.parametrize("restart", [None, 60])
def test_the_first_stage_is_monais_schedule_and_the_second_a_lower_cosine(restart: int | None) -> None:
    def rates(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule = make(optimizer)
        found = []
        for _ in range(100):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    ours = rates(
        lambda optimizer: TwoStageCosineSchedule(
            optimizer, 10, 100, end_lr=0.002, warmup_multiplier=0.05, restart=restart, second_peak=0.5
        )
    )
    total = restart or 100
    theirs = rates(lambda optimizer: WarmupCosineSchedule(optimizer, 10, total, end_lr=0.002, warmup_multiplier=0.05))
    assert ours[:total] == theirs[:total]
    if restart is not None:
        assert ours[60] == pytest.approx(0.05)
        assert ours[80] == pytest.approx(0.025)
        assert ours[99] == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("steps", "usual", "momentum"), [(4, 0.02, 0.5), (96, 0.02, 10 / 96), (500, 0.02, 0.02), (4000, 0.005, 0.005)]
)
def test_the_average_that_is_kept_is_over_at_most_a_tenth_of_the_steps(steps, usual, momentum):
    assert averaging_momentum(steps, usual=usual) == pytest.approx(momentum)
