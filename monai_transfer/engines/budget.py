"""A training that ends after so many steps or minutes, and whose learning rate falls to then."""

import math
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch.optim import Optimizer


class Budget:
    """Warms the learning rate up, lets it fall along half a cosine, and ends the training when the budget is used.

    The share that is used is the larger one of steps and minutes, so a machine that is lent for ten minutes gets a
    training that is finished by then, and not one that is cut off at a high learning rate. With ``minutes`` the result
    depends on how fast the machine is.

    Args:
        optimizer: its learning rates are the peaks.
        steps: most steps.
        minutes: most minutes, those of earlier processes included; ``None`` for no such limit.
        warm_up: steps of the linear warm-up.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> Budget(optimizer, steps=4, warm_up=1).attach(trainer)
        >>> _ = trainer.run([0, 1, 2])
        >>> round(optimizer.param_groups[0]["lr"], 2)
        0.5
    """

    def __init__(self, optimizer: Optimizer, *, steps: int, minutes: float | None = None, warm_up: int = 100) -> None:
        self.optimizer = optimizer
        self.steps = steps
        self.minutes = minutes
        self.warm_up = min(warm_up, max(1, steps // 10))
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self._earlier = 0.0
        self._started_at = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Set the rates before each step, and look at the clock after it."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def used(self, step: int) -> float:
        """Share of the budget that is used after ``step`` finished steps."""
        share = step / self.steps
        return share if self.minutes is None else max(share, self._seconds() / (60 * self.minutes))

    def __call__(self, engine: Engine) -> None:
        """Set the rate of the step that starts."""
        step = engine.state.iteration - 1
        used = min(1.0, self.used(step))
        factor = min(1.0, (step + 1) / self.warm_up) * 0.5 * (1 + math.cos(math.pi * used))
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    def state_dict(self) -> dict[str, float]:
        """The seconds that are used."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved position."""
        self._earlier = float(state["seconds"])

    def _end(self, engine: Engine) -> None:
        # a step that is ended at its start is counted and not done; the last of all steps ends its epoch by itself
        step = engine.state.iteration
        if step < self.steps and self.used(step) >= 1:
            engine.terminate()

    def _start(self, engine: Engine) -> None:
        self._started_at = time.monotonic()

    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started_at
