"""Trainings as tasks of Dask: each run of a scoreboard is one task, and a worker trains one at a time.

A run is complete when its ``result.json`` is there, on a disk that all machines see, so nothing travels back but the
sentence where it was refused. Where a worker died Dask runs its training again, which goes on from its newest state.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

from distributed import Future, KilledWorker

from monai_transfer.chatter import silence_chatter
from monai_transfer.errors import UserError
from monai_transfer.evaluation import ScoredRun
from monai_transfer.workflows.adaptation import Say
from monai_transfer.workflows.cluster import connected, one_gpu
from monai_transfer.workflows.scored_run import PlannedRun

# a worker may have several threads; trainings of one process would draw from each other's generators
_ALONE = Lock()


@contextmanager
def trained_on_cluster(runs: Sequence[PlannedRun], cluster: str) -> Iterator[Callable[[PlannedRun, Say], ScoredRun]]:
    """Begin to train runs on the workers of a cluster, and yield what waits for one of them.

    When the block is left by an error, what has not begun is dropped.

    Args:
        runs: to train; only these may be asked for.
        cluster: as for :func:`~monai_transfer.workflows.cluster.connected`.

    Raises:
        UserError: the cluster is not known or does not answer.
    """
    with connected(cluster) as client:
        gpu = one_gpu(client)

        def begin(run: PlannedRun, attempt: int = 0) -> Future:
            there = replace(run, folder=run.folder.resolve())
            key = f"train-{'-'.join(there.folder.parts[-3:])}-{attempt}"
            return client.submit(_train, there, key=key, pure=False, resources=gpu)

        waiting = {run.folder: begin(run) for run in runs}
        try:
            yield lambda run, say: _scores(run, waiting[run.folder], begin)
        except BaseException:
            client.cancel(list(waiting.values()))
            raise


def _scores(run: PlannedRun, future: Future, begin: Callable[[PlannedRun, int], Future]) -> ScoredRun:
    try:
        try:
            refusal = future.result()
        except KilledWorker:
            # Dask counts a death against all that the worker had: one that only waited beside gets another chance
            refusal = begin(run, 1).result()
    except KilledWorker as error:
        raise UserError(
            f"The training of {run.folder} ended its workers: see {_log(run.folder)}, and give them more memory."
        ) from error
    except OSError as error:
        if future.status == "error":  # of the training
            raise
        raise UserError("The scheduler of --cluster is gone: give the same command again.") from error
    if refusal:
        raise UserError(refusal)
    finished = run.finished()
    if finished is None:
        raise UserError(f"{run.folder} holds no scores: let --output be on a disk that all workers see.")
    return finished


def _train(run: PlannedRun) -> str:
    """What a worker does, and why it cannot; what a training prints goes into a file beside its bundle."""
    log = _log(run.folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    silence_chatter()
    with _ALONE, _printing_to(log):
        try:
            run.train()
        except UserError as error:  # its cause might not travel
            return str(error)
    log.unlink(missing_ok=True)
    return ""


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)
