"""The state of a training on disk: a few files, each complete and whole or not there at all.

A file is written beside its place, brought to the disk, and only then given its name, so that a process that is killed
leaves the states before it as they were. The name holds the number of finished steps and the beginning of the
SHA-256 of the content, ``step_00000050-1f2e3d4c5b6a7988.pt``: whatever a crash of the machine, a full disk or a copy
cut short made of a file is noticed without reading it as anything, and the state before it is used.
"""

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from monai_transfer.errors import behind
from monai_transfer.files import cannot_write, sha256, sweep, temporary_beside

logger = logging.getLogger(__name__)

_NAME = re.compile(r"^step_(\d{8,})-([0-9a-f]{16})\.pt$")


class Checkpoints:
    """The newest states of one training.

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
        found = [(match, path) for path in _inside(self.folder) if (match := _NAME.match(path.name)) is not None]
        return sorted((int(match[1]), path) for match, path in found)


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


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
