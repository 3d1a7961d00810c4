"""Trainings side by side, each in a process of its own.

What a run leaves lies in its folder, and one that was cut off is gone on with by the next call. So a process has
nothing to hand back but the sentence for the user where it was refused, and one that dies, for want of memory say,
takes no other with it.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol, TypeVar

from monai_transfer.chatter import silence_chatter
from monai_transfer.errors import Interrupted, UserError
from monai_transfer.workflows.adaptation import Say

T = TypeVar("T", covariant=True)


class Trainable(Protocol[T]):
    """A training that leaves all of its result in a folder."""

    @property
    def folder(self) -> Path:
        """Where; no other run has it."""

    def finished(self) -> T | None:
        """The result, where it is there."""

    def train(self, say: Say = ...) -> T:
        """Train in this process, going on where a training was cut off."""


# a forked process would share the threads and locks of torch in whatever state they are
_CONTEXT = get_context("spawn")
_LOOK_EVERY = 0.2  # seconds


@contextmanager
def side_by_side(
    runs: Sequence[Trainable[T]], jobs: int, *, threads: int = 1
) -> Iterator[Callable[[Trainable[T], Say], T]]:
    """Begin to train runs, in this order, and yield what waits for one of them.

    That raises ``UserError`` for a run that could not be trained. When the block is left, what has not begun is
    dropped; when it is left by an error or an interruption, trainings are ended too.

    Args:
        runs: to train; only these may be asked for.
        jobs: so many at once.
        threads: of each process.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {run.folder: pool.submit(_in_own_process, run, threads) for run in runs}
        try:
            yield lambda run, say: waiting[run.folder].result()
        except BaseException:
            _end(list(waiting.values()))
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_own_process(run: Trainable[T], threads: int) -> T:
    log = run.folder.with_name(f"{run.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    receiving, sending = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_train_alone, args=(run, log, sending, threads))
    process.start()
    sending.close()  # of this side; the pipe then ends with the process
    try:
        refusal = str(receiving.recv())
    except EOFError:
        refusal = ""
    process.join()
    if refusal:
        raise UserError(refusal)
    finished = run.finished()
    if finished is None:
        raise UserError(
            f"The training of {run.folder} ended with exit status {process.exitcode}: see {log}, and give a lower "
            "--jobs if memory was short."
        )
    log.unlink(missing_ok=True)
    return finished


def _train_alone(run: Trainable[object], log: Path, answer: Connection, threads: int) -> None:
    """What the process does."""
    import torch

    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for the parent, which then ends its processes in order
    # progress bars of several trainings would tear a terminal apart
    with log.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(threads)
    silence_chatter()
    try:
        run.train()
    except UserError as error:
        answer.send(str(error))
    except Interrupted as stop:
        raise SystemExit(128 + stop.signal) from None


def _end(waiting: Sequence[Future[T]]) -> None:
    """End the trainings that have begun; asked once, each saves its checkpoint first."""
    for future in waiting:
        future.cancel()
    asked: set[int | None] = set()
    while not all(future.done() for future in waiting):
        for process in active_children():
            if process.pid not in asked:
                process.terminate()
                asked.add(process.pid)
        time.sleep(_LOOK_EVERY)
