"""Cases as tasks of Dask: one case is one task, and each worker loads the network once.

A worker that dies is replaced by Dask, and its cases run again. A case that killed its worker as often as Dask allows
is set aside by Dask and is a failed case here, with the log that it left. Results are written by rename, so a case that
is done twice is there once, and what the client saw of the cases is the manifest.
"""

import faulthandler
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from distributed import Client, KilledWorker, WorkerPlugin, as_completed, get_worker

from monai_transfer.chatter import silence_chatter
from monai_transfer.errors import UserError
from monai_transfer.inference.case_work import CaseWork
from monai_transfer.inference.cases import InputCase
from monai_transfer.inference.segmentation import SegmentOptions
from monai_transfer.workflows.cluster import one_gpu

LOGS = "logs"
"""Folder in the output for what a case that killed its worker left."""

_PLUGIN = "monai-transfer"
_BEGUN = " begun on "
_MOST_RETURNS = 10
"""So often a case that only waited beside those that killed is given back; it ends where workers die without a log."""

Task = tuple[InputCase, dict[str, Any], Sequence[str]]
"""A case, its entry, and files of an earlier run."""


@dataclass
class LoadedNetwork(WorkerPlugin):
    """Holds the network in a worker; it is read when the first case comes.

    Args:
        bundles: folders and checksums, as the client read them.
        output: the folder of the results, on a disk that all see.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` of the worker.
        options: what is asked for.
        preview: also write a picture of the outlines.
    """

    bundles: list[tuple[Path, str]]
    output: Path
    device: str
    options: SegmentOptions
    preview: bool
    _work: CaseWork | None = field(default=None, init=False)
    _lock: Any = field(default=None, init=False)

    def setup(self, worker: Any) -> None:
        """Begin in a worker."""
        silence_chatter()
        # cases of one process follow each other, however many threads it has: they share a network and its memory
        self._lock = Lock()

    def segment(self, case: InputCase, entry: dict[str, Any], stale: Sequence[str]) -> dict[str, Any]:
        """Do one case.

        Args:
            case: the case.
            entry: what the manifest says of it.
            stale: files of an earlier run.

        Returns:
            the complete entry.
        """
        with self._lock:
            log = _log(self.output, case.name)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                # read when the process is gone: so each line is on the disk before what it announces
                print(f"{time.strftime('%F %T')}{_BEGUN}{socket.gethostname()}, process {os.getpid()}", file=file)
                file.flush()
                faulthandler.enable(file)
                try:
                    work = self._loaded()
                    result = work.compute(entry, lambda: work.read(case, entry))
                    print(f"{time.strftime('%F %T')} computed: {entry['error'] or 'no error'}", file=file, flush=True)
                    work.write(case, entry, result, stale)
                finally:
                    faulthandler.disable()
            log.unlink(missing_ok=True)
            return entry

    def _loaded(self) -> CaseWork:
        from monai_transfer.inference.segmenter import Segmenter

        if self._work is None:
            # the client has settled whether to trust them; what it settled for is compared
            roots = [root for root, _ in self.bundles]
            segmenter = Segmenter.from_bundle(roots, device=self.device, options=self.options, trust=True)
            for read, (root, checksum) in zip(segmenter.bundles, self.bundles, strict=True):
                if read.checksum != checksum:
                    raise UserError(f"{root} is another bundle on {socket.gethostname()}: put the same one there.")
            if self.options.estimate_dice:
                from monai_transfer.workflows.judging import judge_of

                segmenter.judge = judge_of(segmenter)
            self._work = CaseWork(segmenter, self.output, preview=self.preview)
        return self._work


def segment_on_cluster(
    client: Client, network: LoadedNetwork, tasks: Sequence[Task], done: Callable[[dict[str, Any]], None]
) -> None:
    """Segment cases on the workers of a cluster.

    Args:
        client: of the cluster.
        network: what each worker loads.
        tasks: cases, their entries, and files of earlier runs.
        done: called with each entry as it is complete, in whatever order.

    Raises:
        UserError: the scheduler is gone.
    """
    client.register_plugin(network, name=_PLUGIN)
    if not tasks:
        return
    for case, _, _ in tasks:
        _log(network.output, case.name).unlink(missing_ok=True)  # of an earlier run: what ended there counts no more
    gpus = one_gpu(client)
    given = {f"segment-{number}": task for number, task in enumerate(tasks)}
    keys = list(given)
    coming = as_completed(client.map(_segment_case, *zip(*tasks, strict=True), key=keys, pure=False, resources=gpus))
    for future in coming:
        task, again = given.pop(future.key), f"{future.key}-again"
        try:
            entry = future.result()
        except Exception as error:
            if future.status != "error":  # it was neither done nor failed: nobody knows of it any more
                raise UserError("The scheduler of --cluster is gone: give the same command with --resume.") from error
            if _was_beside(task[1], error, network.output) and again.count("-again") <= _MOST_RETURNS:
                given[again] = task
                coming.add(client.submit(_segment_case, *task, key=again, pure=False, resources=gpus))
                continue
            entry = _set_aside(task[1], error, network.output)
        future.release()
        done(entry)


def resolved(case: InputCase) -> InputCase:
    """The case by paths that mean the same in any working folder."""
    source = case.source
    return replace(case, source=source.resolve() if isinstance(source, Path) else tuple(p.resolve() for p in source))


def _segment_case(case: InputCase, entry: dict[str, Any], stale: Sequence[str]) -> dict[str, Any]:
    network: LoadedNetwork = get_worker().plugins[_PLUGIN]
    return network.segment(case, entry, stale)


def _log(output: Path, case: str) -> Path:
    return output / LOGS / f"{case}.log"


def _begun(output: Path, case: str) -> int:
    """How many processes began a case that has not been finished."""
    log = _log(output, case)
    return log.read_text(errors="replace").count(_BEGUN) if log.is_file() else 0


def _was_beside(entry: dict[str, Any], error: Exception, output: Path) -> bool:
    """Whether a case waited beside another when workers died; Dask counts each death against all that a worker has."""
    return isinstance(error, KilledWorker) and _begun(output, entry["case"]) <= error.allowed_failures


def _set_aside(entry: dict[str, Any], error: Exception, output: Path) -> dict[str, Any]:
    """The entry of a case that no worker survived, or that could not begin."""
    entry = {**entry, "status": "failed"}
    if not isinstance(error, KilledWorker):
        return {**entry, "error": str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"}
    log, begun = _log(output, entry["case"]), _begun(output, entry["case"])
    return {
        **entry,
        "error": f"{entry['input']} ended {begun} processes and was set aside: see {log}.",
        "log": log.read_text(errors="replace")[-4000:] if begun else "",
    }
