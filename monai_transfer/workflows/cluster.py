"""Connecting to Dask, which runs independent jobs on many processes and machines: nothing of ours schedules."""

import atexit
import importlib.util
import logging
import multiprocessing
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.text import line_of

if TYPE_CHECKING:
    from distributed import Client

_FORMS = "local:N, tcp://HOST:PORT, slurm:N, pbs:N or kubernetes:N with N workers"
_SPEC = re.compile(r"(?:(?P<kind>local|slurm|pbs|kubernetes):(?P<number>[1-9]\d{0,4})|(?P<address>(?:tcp|tls)://\S+))")

_PRELOADED = ["distributed", "monai_transfer.inference.segmenter", "monai_transfer.transforms"]
"""What the workers of this machine share: PyTorch and MONAI are imported once and not by each, nor again when one that
died is replaced, which takes half a second then in place of seven."""

_HANDS_IN = {"slurm": "sbatch", "pbs": "qsub"}
"""The command by which dask-jobqueue hands in a job; where it is missing Dask would wait for workers for ever."""

_LOST = "distributed.deploy.lost-worker-timeout"
"""After so long Dask looks once whether a worker that died is back, and gives up its place for good where it is not.
With the 15 s that Dask has, a worker that died again, or starts on a busy machine, is not back: place by place was
given up until none was left."""
_NEVER = "10000 days"
_JOB_IS_LOST = "5 minutes"


def require_cluster(spec: str) -> None:
    """See that a cluster is named in a way that is known, and what it needs is installed; nothing is started.

    Raises:
        UserError: it is not.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"--cluster {spec} is not known: give {_FORMS}.")
    packages = {"slurm": "dask_jobqueue", "pbs": "dask_jobqueue", "kubernetes": "dask_kubernetes"}
    for package in ("distributed", packages.get(match["kind"] or "", "dask")):
        if importlib.util.find_spec(package) is None:
            extra = "cluster,kubernetes" if package == "dask_kubernetes" else "cluster"
            raise UserError(f"--cluster {spec} needs the package {package}: pip install 'monai-transfer[{extra}]'.")
    hands_in = _HANDS_IN.get(match["kind"] or "")
    if hands_in is not None and shutil.which(hands_in) is None:
        raise UserError(f"--cluster {spec} hands in jobs by {hands_in}, which is not here: start it where that is.")


@contextmanager
def connected(spec: str) -> "Iterator[Client]":
    """A client of a cluster, which is started for the block unless it has an address.

    What a worker of a batch system gets (cores, memory, queue, time) stands in the site's Dask configuration,
    ``~/.config/dask/jobqueue.yaml``, and how often a case may kill its worker in
    ``distributed.scheduler.allowed-failures`` there.

    Args:
        spec: ``local:N``, ``tcp://HOST:PORT``, ``slurm:N``, ``pbs:N`` or ``kubernetes:N``.

    Raises:
        UserError: it is not known, Dask is missing, or nothing answers.
    """
    require_cluster(spec)
    from distributed import Client

    match = _SPEC.fullmatch(spec)
    assert match is not None  # it was required
    if match["address"]:
        try:
            client = Client(match["address"])
        except OSError as error:
            raise UserError(f"--cluster {spec} does not answer: start a Dask scheduler there.") from error
        with client:
            yield client
        return
    with _started(match["kind"], int(match["number"])) as cluster, Client(cluster) as client:
        yield client


def one_gpu(client: "Client") -> dict[str, int] | None:
    """What a task asks for: a GPU, where workers declare ``--resources GPU=1``."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1} if any("GPU" in worker["resources"] for worker in workers) else None


@contextmanager
def _started(kind: str, number: int) -> Iterator[Any]:
    if kind == "local":
        with _local(number) as cluster:
            yield cluster
        return
    if kind == "kubernetes":
        from dask_kubernetes.operator.kubecluster.kubecluster import KubeCluster, reap_clusters

        try:
            cluster = KubeCluster(name="monai-transfer", n_workers=number, quiet=True)
        except Exception as error:  # of kr8s, httpx and asyncio, each with kinds of its own
            # what was begun is ended here: at the exit of Python the same would fail once more, with a traceback
            with suppress(Exception):
                reap_clusters()
            atexit.unregister(reap_clusters)
            raise UserError(
                f"--cluster kubernetes could not be started ({line_of(error)}): see that kubectl reaches a cluster "
                "here and that Dask's operator is installed in it."
            ) from error
    else:
        with _jobs(kind, number) as cluster:
            yield cluster
        return
    with cluster:
        yield cluster


@contextmanager
def _jobs(kind: str, number: int) -> Iterator[Any]:
    """Jobs of a batch system; one that it took away is handed in again."""
    import dask
    import dask_jobqueue

    try:
        cluster = {"slurm": dask_jobqueue.SLURMCluster, "pbs": dask_jobqueue.PBSCluster}[kind]()
    except ValueError as error:
        raise UserError(
            f"--cluster {kind} does not know what a job gets ({line_of(error)}): name cores and memory in "
            "~/.config/dask/jobqueue.yaml, as deploy/jobqueue.yaml does."
        ) from error
    # a process that died in a job is started again within it, which may take minutes on a cold disk
    with dask.config.set({_LOST: _JOB_IS_LOST}), cluster:
        cluster.adapt(minimum_jobs=number, maximum_jobs=number)
        yield cluster


@contextmanager
def _local(number: int) -> Iterator[Any]:
    import dask
    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    # the place of a worker cannot be lost: what starts it again lives in this process
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver", _LOST: _NEVER}):
        get_mp_context()  # it names what to preload, once; what follows is in its place
        multiprocessing.set_forkserver_preload(_PRELOADED)
        with LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # what a case needs is compared with what is free before it is read
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster:
            # it warns of each worker that it replaces; a case that did not survive that is told in the end
            logging.getLogger("distributed").propagate = False
            yield cluster
