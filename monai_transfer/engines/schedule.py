"""What changes over a training run: strength of the methods, balance of the classes, learning rate."""

import math
from collections.abc import Iterable
from typing import Literal

from ignite.engine import Engine, Events
from monai.optimizers import WarmupCosineSchedule
from torch.optim import Optimizer

from monai_transfer.adaptation import AdaptationMethod
from monai_transfer.losses import ClassBalancedDiceCELoss


class StrengthSchedule:
    r"""Raises the strength of the methods from 0 to 1 over a training run.

    With progress :math:`p \in [0, 1]` between ``warm_up`` and ``warm_up + ramp`` the strength is :math:`p` for
    ``"linear"``, :math:`\exp(-5 (1 - p)^2)` for ``"sigmoid"`` (Laine and Aila, 2017) and
    :math:`2 / (1 + \exp(-10 p)) - 1` for ``"dann"`` (Ganin et al., 2016).

    Args:
        methods: the methods to steer.
        warm_up: steps at strength 0.
        ramp: steps from 0 to 1; 0 jumps.
        shape: the curve.

    Example:
        >>> schedule = StrengthSchedule([], warm_up=10, ramp=20)
        >>> [schedule.strength(step) for step in (0, 10, 20, 30)]
        [0.0, 0.0, 0.5, 1.0]
    """

    def __init__(
        self,
        methods: Iterable[AdaptationMethod],
        *,
        warm_up: int = 0,
        ramp: int = 0,
        shape: Literal["linear", "sigmoid", "dann"] = "linear",
    ) -> None:
        self.methods = list(methods)
        self.warm_up = warm_up
        self.ramp = ramp
        self.shape = shape

    def attach(self, engine: Engine) -> None:
        """Set the strength before each step."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the strength of the step that starts."""
        # from the engine's own count of steps: a resumed training goes on where it stopped
        value = self.strength(engine.state.iteration - 1)
        for method in self.methods:
            method.set_strength(value)

    def strength(self, step: int) -> float:
        """Strength after ``step`` finished steps."""
        if step < self.warm_up:
            return 0.0
        progress = 1.0 if self.ramp == 0 else min(1.0, (step - self.warm_up) / self.ramp)
        if self.shape == "sigmoid":
            return math.exp(-5 * (1 - progress) ** 2)
        if self.shape == "dann":
            return 2 / (1 + math.exp(-10 * progress)) - 1
        return progress


class BalanceSchedule:
    """Lowers the loss's ``gamma`` from its first value to 0, linearly.

    Rare classes weigh more while the network learns where they are; a network that went on so would draw them too
    large, because a missed voxel costs more than an invented one.

    Args:
        loss: the loss whose ``gamma`` falls.
        steps: the step at which it reaches 0.

    Example:
        >>> loss = ClassBalancedDiceCELoss(num_classes=3, gamma=0.5)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> BalanceSchedule(loss, steps=4).attach(trainer)
        >>> _ = trainer.run([0, 1, 2])
        >>> loss.gamma
        0.25
    """

    def __init__(self, loss: ClassBalancedDiceCELoss, *, steps: int) -> None:
        self.loss = loss
        self.steps = max(1, steps)
        self.first = loss.gamma

    def attach(self, engine: Engine) -> None:
        """Set ``gamma`` before each step."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set ``gamma`` for the step that starts."""
        self.loss.gamma = self.first * max(0.0, 1 - (engine.state.iteration - 1) / self.steps)


def averaging_momentum(steps: int, *, usual: float = 0.02) -> float:
    """Share of a step's weights in the running average that is kept: the average is over at most a tenth of the steps.

    A longer one would lag behind the statistics of batch normalisation, which are of about ten steps and are saved as
    they are at the end: a light ResNet-10 of 96 steps segmented nothing with an average over 50.

    Args:
        steps: of the training.
        usual: share in long trainings.

    Example:
        >>> [averaging_momentum(steps) for steps in (10, 100, 500, 1000)]
        [0.5, 0.1, 0.02, 0.02]
    """
    return min(0.5, max(usual, 10 / steps))


class TwoStageCosineSchedule(WarmupCosineSchedule):
    r"""MONAI's warm-up and half cosine, gone through twice: the second time without warm-up and from a lower peak.

    The first stage thus ends with a finished network, whose labels of the target are as good as they get; the second
    has the learning rate to take them in. Warm restarts: Loshchilov and Hutter, *SGDR*, ICLR 2017.

    Args:
        optimizer: its learning rates are the first stage's peaks.
        warmup_steps: steps of the linear warm-up.
        t_total: steps of both stages.
        end_lr: least learning rate after the warm-up.
        warmup_multiplier: share of the peak at which the warm-up begins.
        restart: step at which the second stage begins; ``None`` leaves one stage, which is MONAI's schedule.
        second_peak: share of the peak at which the second stage begins.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> schedule = TwoStageCosineSchedule(torch.optim.SGD([weight], 1.0), 0, 8, restart=4, second_peak=0.5)
        >>> [round(schedule.lr_lambda(step), 2) for step in (0, 2, 4, 6, 8)]
        [1.0, 0.5, 0.5, 0.25, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        t_total: int,
        end_lr: float = 0.0,
        *,
        warmup_multiplier: float = 0.0,
        restart: int | None = None,
        second_peak: float = 0.5,
    ) -> None:
        self.restart = restart
        self.second_peak = second_peak
        self.steps = t_total
        first = t_total if restart is None else restart
        super().__init__(optimizer, warmup_steps, first, end_lr=end_lr, warmup_multiplier=warmup_multiplier)

    def lr_lambda(self, step: int) -> float:
        """Share of the peak after ``step`` steps."""
        if self.restart is None or step < self.restart:
            share: float = super().lr_lambda(step)
            return share
        progress = (step - self.restart) / max(1, self.steps - self.restart)
        return self.second_peak * 0.5 * (1 + math.cos(math.pi * progress))
