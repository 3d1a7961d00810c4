"""Grid and steps of trainings that may take so many minutes on this machine."""

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from monai.bundle import ConfigParser
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.benchmark import Timer

from monai_transfer.bundle.facts import parse_config
from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import Plan
from monai_transfer.errors import UserError
from monai_transfer.networks import mixed_precision
from monai_transfer.options import Minutes, validated

logger = logging.getLogger(__name__)

LOOP = 1.6
"""Time of a training beside that of its bare steps: reading, augmentation, validation, scores (1.5 measured)."""

ADAPTED = 3.3
"""Time of the default recipe beside that of a training without a target (3.1 measured): it learns the target's volumes
too, and looks at them."""

_GRIDS = tuple(2.0 ** (power / 4) for power in range(12, -7, -1))
"""Voxels per volume that are tried, the most first, in shares of the usual number: from 8 down to a third of it."""

_ENOUGH = 0.4
"""Share of the usual steps for which the usual grid is kept; with fewer the grid becomes coarser."""

_FEWEST = 100
_MOST = 3.0
"""Bounds of the steps: a number, and a share of the usual steps, beyond which more of them bring next to nothing."""

_WORTH_TELLING = 0.8
"""Share of the time below which it is told that the plan leaves the rest unused."""


@validated
class Pace:
    """The time that trainings may take.

    Attributes:
        minutes: of all of them together.
        trainings: how many follow one another, an adapted one counting :data:`ADAPTED` times.
        at_once: how many go on side by side and share the machine's threads.
        begun: a bundle that keeps the grid and steps of its training if that was begun; ``None`` measures anew.

    Example:
        >>> [Pace.of_adaptation(60, oracle=True, jobs=jobs).trainings for jobs in (1, 2)]
        [5.3, 3.3]
    """

    minutes: Minutes
    trainings: float = 1.0
    at_once: int = 1
    begun: Path | None = None

    @classmethod
    def of_adaptation(cls, minutes: float, *, oracle: bool, jobs: int = 1, begun: Path | None = None) -> Self:
        """The pace of source-only, the adapted network and perhaps the oracle, the longest chain of them that is.

        Beside the adapted network, which takes longer than the two others together, these are done meanwhile.
        """
        at_once = min(jobs, 2 + oracle)
        return cls(minutes, ADAPTED if at_once > 1 else 1 + ADAPTED + oracle, at_once, begun)

    def plan(self, make: Callable[..., Plan], *, channels: int) -> Plan:
        """The plan with the finest grid on which the usual number of steps fits into the minutes.

        Where there is time for more steps on the finest grid that the data and the memory allow, they are taken. Where
        there is less time the steps become fewer, and from 0.4 of the usual number on the grid coarser.

        Args:
            make: gives the plan for ``steps=``, ``spacing=`` and ``detail=`` (voxels per volume, in shares of the
                usual number).
            channels: of the images.

        Raises:
            UserError: the minutes are too few for 100 steps on the coarsest grid.
        """
        begun = None if self.begun is None else self.begun / "configs" / "train.json"
        if begun is not None and begun.is_file():
            train = parse_config(begun)
            return make(steps=train["max_epochs"] * train["steps_per_epoch"], spacing=tuple(train["spacing"]))
        usual = make()
        threads = max(1, torch.get_num_threads() // self.at_once)
        each = seconds_of_step(usual, channels, threads) / math.prod(usual.roi_size)
        budget = 60 * self.minutes / (LOOP * self.trainings)

        def affordable(plan: Plan) -> int:
            return int(budget / (each * math.prod(plan.roi_size)))

        plans = _possible(make)
        fine = [plan for plan in plans if plan.spacing <= usual.spacing and affordable(plan) >= usual.steps]
        coarse = [plan for plan in plans if plan.spacing >= usual.spacing and affordable(plan) >= _ENOUGH * usual.steps]
        chosen = (fine or coarse or plans[-1:])[0]
        allowed, most = affordable(chosen), int(_MOST * usual.steps)
        steps = min(allowed, most)
        if steps < _FEWEST:
            least = math.ceil(self.minutes * _FEWEST / max(steps, 1))
            raise UserError(f"--minutes {self.minutes:g} is too short for this machine: give at least {least}.")
        if most < _WORTH_TELLING * allowed:
            logger.warning(
                "Of --minutes %g about %d are used: beyond %d steps on the finest grid that is planned more bring next "
                "to nothing; --spacing makes it finer.",
                self.minutes,
                math.ceil(self.minutes * most / allowed),
                most,
            )
        return chosen.with_options(steps=steps)


def _possible(make: Callable[..., Plan]) -> list[Plan]:
    """The plans from the finest grid to the coarsest, without those that memory does not allow."""
    plans: dict[tuple[float, ...], Plan] = {}
    for detail in _GRIDS:
        try:
            plan = make(detail=detail)
        except UserError:  # too large: the next one is smaller
            continue
        plans.setdefault(plan.spacing, plan)
    return list(plans.values())


def seconds_of_step(plan: Plan, channels: int, threads: int) -> float:
    """Seconds of a bare training step of a plan, forward, backward and optimizer, measured on its device."""
    definition = network_definition(plan.network, classes=plan.classes, channels=channels)
    # random numbers are drawn apart, so that nobody's own are moved
    with torch.random.fork_rng(devices=[]):
        network = ConfigParser({"network": definition}).get_parsed_content("network").to(plan.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((plan.batch_size, channels, *plan.roi_size), generator=generator).to(plan.device)
    label = torch.randint(plan.classes, (plan.batch_size, *plan.roi_size), generator=generator).to(plan.device)

    dtype: torch.dtype = getattr(torch, plan.precision)
    mixed = nullcontext if dtype is torch.float32 else partial(mixed_precision, plan.device, dtype=dtype)

    def step() -> None:
        optimizer.zero_grad()
        with mixed():
            logits = network(image)
        loss: Tensor = cross_entropy(logits.float(), label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    scope: dict[str, Any] = {"step": step}
    timer = Timer("step()", globals=scope, num_threads=threads)
    return float(timer.blocked_autorange(min_run_time=2.0).median)
