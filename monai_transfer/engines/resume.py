"""A training that is interrupted ends in order, with its checkpoint, and goes on bit for bit where it stopped."""

import logging
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_transfer.engines.checkpoints import Checkpoints
from monai_transfer.engines.random_states import random_states, set_random_states
from monai_transfer.errors import UserError
from monai_transfer.machine import require_disk, versions
from monai_transfer.processes import any_process, rank, states_of_processes, world_size

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch systems and containers send some seconds before they kill."""


class ExactResume:
    """Keeps the whole state of a training in a folder, and goes on from it.

    A state is kept at the end of an epoch, after all other handlers. There the random transforms stand at a seam (they
    are seeded anew at each epoch, see :class:`~monai_transfer.datasets.DomainLoader`), so what is kept is the whole
    truth: the trainer's network, optimizer, loss, methods, regularizers, scaler and loader; every handler of the
    trainer that has ``state_dict`` and ``load_state_dict``; ``parts``; and the generators of torch, NumPy and Python.

    Handlers run in the order in which they are attached. This one goes before those that look at the trainer's step
    when training starts.

    Args:
        folder: for the states, see :class:`Checkpoints`.
        resume: whether to go on from the newest whole state there; else what is there is removed.
        parts: further objects with ``state_dict`` and ``load_state_dict`` by name; ``None`` is left out.
        keep: so many states are kept.
        steps: fewest steps from one state to the next.
        minutes: after so many minutes the next end of an epoch keeps a state, whatever that costs.
        share: most of the time that keeping states may take before then.

    Attributes:
        kept: finished steps of the newest state.
        seconds: how long the training had taken, in earlier processes, up to the state that it went on from.

    Raises:
        UserError: when training starts, and the disk has no room or the state is of another training.

    Example:
        >>> import tempfile
        >>> from monai_transfer.engines import AdaptationTrainer
        >>> def train(folder, epochs, *, resume=False):
        ...     torch.manual_seed(0)
        ...     network = torch.nn.Conv2d(1, 2, 1)
        ...     batch = {"source": {"image": torch.ones(1, 1, 4, 4), "label": torch.zeros(1, 4, 4, dtype=torch.long)}}
        ...     AdaptationTrainer(
        ...         "cpu", epochs, [batch], network, torch.optim.Adam(network.parameters()),
        ...         torch.nn.CrossEntropyLoss(),
        ...         train_handlers=[ExactResume(folder, resume=resume)],
        ...     ).run()
        ...     return network.weight
        >>> with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        ...     _ = train(one, 2)
        ...     bool((train(one, 4, resume=True) == train(other, 4)).all())
        True
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        resume: bool = False,
        parts: Mapping[str, Any] | None = None,
        keep: int = 2,
        steps: int = 1,
        minutes: float = 10.0,
        share: float = 0.02,
    ) -> None:
        self.checkpoints = Checkpoints(folder, keep=keep)
        self.resume = resume
        self.parts = dict(parts or {})
        self.steps = steps
        self.minutes = minutes
        self.share = share
        self.kept = 0
        self.seconds = 0.0
        self._started_at = self._kept_at = 0.0
        self._cost = 0.0

    def attach(self, engine: Engine) -> None:
        """Go on when the trainer ``engine`` starts, and keep states while it runs."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Any) -> None:
        state = self.checkpoints.newest() if self.resume else None
        if state is not None:
            self._restore(engine, state)
        elif rank() == 0:
            self.checkpoints.clear()
        # twice the network, for the two means of each weight that Adam keeps, which are not there before the first step
        size = _size(self._states(engine)) + (2 * _size(engine.network.state_dict()) if state is None else 0)
        require_disk(self.checkpoints.folder, size * (self.checkpoints.keep + 1), "The states of this training")
        self.kept = engine.state.iteration
        self._started_at = self._kept_at = time.monotonic()
        # attached now, it comes after all handlers that were attached before training started
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._keep)

    def _keep(self, engine: Any) -> None:
        # an early stop belongs to the epoch: going on from here would train past it
        ends = engine.should_terminate or engine.state.epoch >= engine.state.max_epochs
        # the first process decides for all: their clocks differ
        if ends or not any_process(rank() == 0 and self._due(engine)):
            return
        generators = states_of_processes(random_states())
        if rank() == 0:
            start = time.monotonic()
            step = engine.state.iteration
            position = {"epoch": engine.state.epoch, "iteration": step, "epoch_length": engine.state.epoch_length}
            state = {
                "position": position,
                "states": self._states(engine),
                "random": generators,
                "made_with": _surroundings(engine),
                "seconds": self.seconds + time.monotonic() - self._started_at,
            }
            self.checkpoints.save(step, state)
            self._cost = time.monotonic() - start
        self.kept, self._kept_at = engine.state.iteration, time.monotonic()

    def _due(self, engine: Any) -> bool:
        passed = time.monotonic() - self._kept_at
        enough = engine.state.iteration - self.kept >= self.steps
        return passed >= 60 * self.minutes or (enough and passed * self.share >= self._cost)

    def _restore(self, engine: Any, state: Mapping[str, Any]) -> None:
        objects = self._objects(engine)
        position, states = state["position"], state["states"]
        if set(states) != set(objects) or position["epoch_length"] != engine.state.epoch_length:
            raise UserError(
                f"{self.checkpoints.folder} holds the state of another training than this one: give the command that "
                "began it, or --overwrite to train again from the beginning."
            )
        now = _surroundings(engine)
        changed = [
            f"{name} {then}, now {now.get(name)}" for name, then in state["made_with"].items() if then != now[name]
        ]
        if changed:
            logger.warning("The training goes on, but not bit for bit: it began with %s.", "; ".join(changed))
        for name, part in objects.items():
            part.load_state_dict(states[name])
        engine.state.epoch, engine.state.iteration = position["epoch"], position["iteration"]
        self.seconds = float(state["seconds"])
        if rank() < len(state["random"]):
            set_random_states(state["random"][rank()])

    def _states(self, engine: Any) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._objects(engine).items()}

    def _objects(self, engine: Any) -> dict[str, Any]:
        """What has a state, by name, in the order in which it is restored."""
        own = ("network", "optimizer", "loss_function", "scaler", "data_loader")
        found = {name: getattr(engine, name, None) for name in own}
        for group in ("methods", "regularizers", "handlers"):
            members = getattr(engine, group, ())
            found |= {f"{group}/{number}/{type(part).__name__}": part for number, part in enumerate(members)}
        found |= self.parts
        return {name: part for name, part in found.items() if _has_state(part)}


def _has_state(part: Any) -> bool:
    return callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None))


def _size(state: Any) -> int:
    """Bytes of all tensors."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    inside = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return sum(_size(part) for part in inside)


def _surroundings(engine: Any) -> dict[str, str]:
    """What decides over the last bits of a sum."""
    known = versions()
    names = ("monai-transfer", "monai", "torch", "numpy")
    device = engine.state.device
    return {
        **{name: str(known.get(name)) for name in names},
        "device": "cpu" if device is None else str(torch.device(device).type),
        "threads": str(torch.get_num_threads()),
        "processes": str(world_size()),
    }


class GracefulInterrupt:
    """Turns the first signal into an orderly end of training; the second one stops at once.

    Attributes:
        signal: the signal that ended the training; ``None`` when none did.
        steps: the optimizer steps that were done by then.

    Example:
        >>> from ignite.engine import Engine
        >>> handler = GracefulInterrupt()
        >>> handler.attach(Engine(lambda engine, batch: None))
        >>> handler.signal is None
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.steps = 0
        self._previous: dict[int, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Watch for the signals while training runs; only the main thread can."""
        engine.add_event_handler(Events.STARTED, self._watch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_together)
        engine.add_event_handler(Events.COMPLETED, self._restore)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._restore_and_raise)

    def _watch(self, engine: Engine) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.signal = number
            logger.warning("Interrupted: finishing this step and saving the checkpoint; press again to stop at once.")
            self._give_back()
            if world_size() == 1:
                engine.terminate()

        self._previous = {number: signal.signal(number, stop) for number in SIGNALS}

    def _stop_together(self, engine: Engine) -> None:
        """End several processes after the same step, whichever of them the signal reached."""
        if world_size() > 1 and any_process(self.signal is not None):
            self.signal = self.signal or signal.SIGTERM
            engine.terminate()

    def _give_back(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def _restore(self, engine: Engine) -> None:
        self.steps = engine.state.iteration
        self._give_back()

    def _restore_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._restore(engine)
        raise error
