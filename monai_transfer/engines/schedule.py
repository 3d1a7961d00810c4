"""What changes over a training run: the strength of the methods, the balance of the classes."""

import math
from collections.abc import Iterable
from typing import Literal

from ignite.engine import Engine, Events

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
