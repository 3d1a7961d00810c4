"""A training that was cut off goes on, and ends with the bits of one that was not."""

import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from monai_transfer.engines.reproducing import circumstances, random_states, set_random_states
from monai_transfer.errors import UserError, behind
from monai_transfer.files import cannot_write, sha256, sweep, temporary_beside
from monai_transfer.machine import require_disk
from monai_transfer.processes import any_process, rank, states_of_processes

logger = logging.getLogger(__name__)

_NAME = re.compile(r"^step_(\d{8,})-([0-9a-f]{16})\.pt$")


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
                "made_with": circumstances(engine),
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
        now = circumstances(engine)
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


class Checkpoints:
    """The newest states of one training on disk: a few files, each complete and whole or not there at all.

    A file is written beside its place, brought to the disk, and only then given its name, so that a process that is
    killed leaves the states before it as they were. The name holds the number of finished steps and the beginning of
    the SHA-256 of the content, ``step_00000050-1f2e3d4c5b6a7988.pt``: whatever a crash of the machine, a full disk or a
    copy cut short made of a file is noticed without reading it as anything, and the state before it is used.

    Args:
        folder: where they lie; made when the first one is saved.
        keep: so many are kept; two, so that there is one before a torn one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(folder)
        ...     for step in (25, 50, 75):
        ...         _ = checkpoints.save(step, {"weight": torch.zeros(2), "step": step})
        ...     print(checkpoints.steps, checkpoints.newest()["step"])
        [50, 75] 75
    """

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = max(1, keep)

    @property
    def steps(self) -> list[int]:
        """Finished steps of the states that are there, in rising order."""
        return [step for step, _ in self._files()]

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write a state after so many finished steps; remove an earlier one of that step, and those that are too many.

        Args:
            step: number of finished steps.
            state: tensors, numbers, texts, and lists and dictionaries of them: they are read with ``weights_only``.

        Raises:
            UserError: the disk is full, or the folder cannot be written to; the states that were there stay.
        """
        temporary = temporary_beside(self.folder / "state")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                torch.save(dict(state), file)
                file.flush()
                # the name must not reach the disk before the content does
                os.fsync(file.fileno())
            path = self.folder / f"step_{step:08d}-{sha256(temporary)[:16]}.pt"
            temporary.replace(path)
            _sync(self.folder)
        except (OSError, RuntimeError) as error:
            fault = _disk_fault(error)
            if fault is None:
                raise
            raise cannot_write(self.folder, fault) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        # of two states of one step the names say only which digest is larger: the one just written counts
        for old in [old for number, old in self._files() if number == step and old != path]:
            old.unlink(missing_ok=True)
        for _, old in self._files()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> dict[str, Any] | None:
        """The newest state that is whole; ``None`` when there is none. Tensors are on the CPU."""
        for step, path in reversed(self._files()):
            match = _NAME.match(path.name)
            if match is not None and sha256(path).startswith(match[2]):
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            logger.warning("%s is torn (step %d): the state before it is used.", path, step)
        return None

    def clear(self) -> None:
        """Remove all states, and what a process that was killed left of one."""
        sweep(self.folder)
        for _, path in self._files():
            path.unlink(missing_ok=True)
        with suppress(OSError):  # where somebody put something else, it stays
            self.folder.rmdir()

    def _files(self) -> list[tuple[int, Path]]:
        found = [
            (match, path) for path in self.folder.glob("step_*.pt") if (match := _NAME.match(path.name)) is not None
        ]
        return sorted((int(match[1]), path) for match, path in found if match is not None)


def _sync(folder: Path) -> None:
    """Bring the folder's entries to the disk, where the system can (Windows cannot)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _disk_fault(error: BaseException | None) -> OSError | None:
    """The fault of the disk behind an error; torch's writer raises a ``RuntimeError`` of its own around it."""
    return next((fault for fault in behind(error) if isinstance(fault, OSError)), None)
