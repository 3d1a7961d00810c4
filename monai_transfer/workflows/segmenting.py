"""Segmenting volumes with a bundle: case n+1 is read while n is computed and n-1 is written; a bad one stops nobody."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.files import require_folder, sweep
from monai_transfer.inference.bids import find_bids_cases, require_bids, write_bids_description
from monai_transfer.inference.case_work import CaseWork, Read, Recorder, places_of, url_of
from monai_transfer.inference.cases import InputCase, Inputs, find_cases, require_there
from monai_transfer.inference.dicom_seg import require_highdicom
from monai_transfer.inference.output_folder import STATISTICS, Manifest, require_apart, require_unclaimed
from monai_transfer.inference.segmentation import SegmentOptions, write_sidecars
from monai_transfer.machine import device_of_process, launched, versions
from monai_transfer.workflows.cluster import connected, require_cluster

if TYPE_CHECKING:
    from monai_transfer.inference.segmenter import Segmenter


@dataclass(frozen=True)
class CaseProgress:
    """Where a folder run stands: case ``number`` of ``cases``, and the windows of that case."""

    number: int
    cases: int
    name: str
    windows_done: int = 0
    windows: int = 0


FolderProgress = Callable[[CaseProgress], None]


def segment(
    inputs: str | Path | Sequence[str | Path],
    bundle: "str | Path | Sequence[str | Path] | Segmenter",
    output: str | Path,
    *,
    device: str = "auto",
    options: SegmentOptions | None = None,
    adapt: bool = False,
    trust: bool = False,
    say: Callable[[str], None] = lambda message: None,
    preview: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    cluster: str | None = None,
    progress: FolderProgress | None = None,
) -> dict[str, Any]:
    """Segment files, folders and DICOM series into ``output/<case>.nii.gz``.

    Under ``torchrun`` (``RANK`` and ``WORLD_SIZE`` in the environment) each process takes its share of the cases and
    the GPU of its ``LOCAL_RANK``; they write one manifest together.

    Args:
        inputs: files and folders, also in a bucket (``s3://``, ``gs://``, see
            :mod:`~monai_transfer.inference.bucket_places`), as ``output`` may be.
        bundle: a bundle folder, several as an ensemble, or a ``Segmenter`` that is ready.
        output: the folder of the results; also gets ``manifest.json`` and the label names.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        options: what is asked for beyond the label map.
        adapt: adapt every network to the inputs first, without labels; the bundles stay.
        trust: let bundles that were not made here run whatever code they name.
        say: called with a sentence on each network that was adapted.
        preview: also write ``<case>_preview.png``.
        resume: skip the cases that an earlier run finished from the same input in the same way, files unharmed.
        overwrite: whether results of other inputs, or made otherwise, may be replaced.
        shard: ``(i, n)``: the ``i``-th of ``n`` shares of the cases, from 0, in place of what ``torchrun`` says.
        cluster: ``local:N``, ``tcp://HOST:PORT``, ``slurm:N``, ``pbs:N`` or ``kubernetes:N``: the cases are tasks of
            Dask there (see :func:`~monai_transfer.workflows.cluster.connected`), all on a disk that all machines see.
        progress: called as cases and windows are done.

    Returns:
        The manifest: versions, bundle, what was skipped and one entry per case, of all processes on rank 0 and of its
        own on others.

    Raises:
        UserError: when there is no input, the bundle cannot be used, or the output folder may not be written to.
    """
    rank, world = shard or (int(os.environ.get("RANK", "0")), launched())
    if cluster is not None:
        _require_alone(cluster, bundle, output, adapt=adapt, shared=world > 1)
    asked = options or getattr(bundle, "options", None) or SegmentOptions()
    if asked.dicom_seg:
        require_highdicom()
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    if (adapt or asked.bids) and any(url_of(path) for path in (*paths, output)):
        raise UserError(f"{'--adapt' if adapt else '--bids'} reads and writes folders of this machine, and no bucket.")
    with places_of(paths, output, share=(rank, world)) as places:
        given, folder = places.inputs, places.output
        require_there(given)
        require_apart(given, folder)  # before the bundle is read, which takes a while
        if asked.bids:
            require_bids(asked, folder)
        segmenter = _ready(bundle, given, device, options, adapt=adapt, trust=trust, say=say)
        if segmenter.options.estimate_dice:
            from monai_transfer.workflows.judging import judge_of  # here, as above

            segmenter.judge = judge_of(segmenter, adapted=adapt)
        found = _found(segmenter, given, folder)
        manifest = places.manifest(_head(segmenter, found))
        cases = [places.case(case) for case in found.cases[rank::world]]
        work = places.work(segmenter, preview=preview)
        files = {case: [case.name + ending for ending in work.products(case).values()] for case in cases}
        require_unclaimed(folder, files, manifest, resume=resume, overwrite=overwrite)
        require_folder(folder)
        sweep(folder)
        run = _Run(work, manifest, progress)
        if cluster is None:
            run.over(cases, resume=resume)
        else:
            run.on_cluster(cluster, cases, device, resume=resume)
        _write_beside(run, given, first=rank == 0 or shard is not None)
        places.finish()
    if shard is None and world > 1 and "MASTER_ADDR" in os.environ:
        from monai_transfer.processes import wait_for_the_others  # here: torch takes seconds, a wrong path does not

        wait_for_the_others()
        if rank == 0 and manifest.path.exists():
            return manifest.read()
    return {**manifest.head, "cases": sorted(run.entries, key=lambda e: str(e["case"]))}


def _found(segmenter: "Segmenter", given: Sequence[Path], folder: Path) -> Inputs:
    """The cases among the inputs."""
    expected = segmenter.bundle
    if segmenter.options.bids:
        return find_bids_cases(given, channels=expected.in_channels, output=folder)
    return find_cases(given, channels=expected.in_channels, optional=expected.optional_channels, output=folder)


def _write_beside(run: "_Run", given: Sequence[Path], *, first: bool) -> None:
    """What stands beside the results: of the labels, of the data set, and what was measured."""
    segmenter, folder = run.work.segmenter, run.work.output
    if first:
        write_sidecars(segmenter.label_names, folder)
        if segmenter.options.bids:
            write_bids_description(folder, segmenter.label_names, given)
    if segmenter.options.statistics:
        from monai_transfer.inference.statistics import write_statistics  # only where it is asked for

        with run.manifest.lock:  # each process writes what all have found so far
            write_statistics(run.manifest.read()["cases"], folder / STATISTICS)


def _require_alone(cluster: str, bundle: Any, output: str | Path, *, adapt: bool, shared: bool) -> None:
    """See that the cases are shared out once, and that the workers can read the network themselves."""
    require_cluster(cluster)
    if shared:
        raise UserError("--cluster shares the cases among its workers: omit --shard and torchrun.")
    if url_of(output) is not None:
        raise UserError("--cluster writes to a disk that all workers see: give such an --output, or use --shard.")
    if adapt or not isinstance(bundle, str | Path | Sequence):
        raise UserError("--cluster needs a bundle that its workers can read: adapt it first (adapt --bundle).")


def _ready(
    bundle: "str | Path | Sequence[str | Path] | Segmenter",
    inputs: Sequence[Path],
    device: str,
    options: SegmentOptions | None,
    *,
    adapt: bool,
    trust: bool,
    say: Callable[[str], None],
) -> "Segmenter":
    """The networks on the device of this process, adapted to the inputs where that is asked for."""
    from monai_transfer.inference.segmenter import Segmenter  # here: MONAI takes seconds, a wrong path does not

    if isinstance(bundle, Segmenter):
        return bundle
    device = device_of_process(device)
    segmenter = Segmenter.from_bundle(bundle, device=device, options=options, trust=trust)
    if not adapt:
        return segmenter

    from monai_transfer.workflows.source_free import adapt_to_inputs, adaptation_sentence

    members = []
    for member in segmenter.bundles:
        changed, adapted = adapt_to_inputs(member, inputs, reading=segmenter.options.reading)
        say(adaptation_sentence(adapted))
        members.append(changed)
    return Segmenter(members, device=device, options=options)


def _head(segmenter: "Segmenter", found: Inputs) -> dict[str, Any]:
    bundles = [{"path": str(b.root), "checksum": b.checksum} for b in segmenter.bundles]
    options = asdict(segmenter.options)
    options["mirror_axes"], options["labels"] = list(options["mirror_axes"]), list(options["labels"])
    options["cleaning"]["largest_component"] = list(options["cleaning"]["largest_component"])
    return {
        "versions": versions(),
        "bundle": bundles[0] if len(bundles) == 1 else bundles,
        "labels": {str(n): name for n, name in segmenter.label_names.items()},
        "device": str(segmenter.device),
        "options": options,
        "skipped": [{"input": str(skipped.path), "reason": skipped.reason} for skipped in found.skipped],
    }


@dataclass
class _Run:
    """The run of one process over its share of the cases."""

    work: CaseWork
    manifest: Manifest
    progress: FolderProgress | None
    entries: list[dict[str, Any]] = field(default_factory=list)

    def over(self, cases: Sequence[InputCase], *, resume: bool) -> None:
        """Segment the cases in this process; with ``resume`` but for those that are finished."""
        todo, stale = self._begin(cases, resume=resume)
        with Recorder(self.manifest) as record, ThreadPoolExecutor(1, "write") as writer:
            written: Future[None] | None = None
            for number, (case, entry, reading) in enumerate(self._read_ahead(todo), start=1):
                step = CaseProgress(number, len(todo), case.name)
                self._tell(step)
                result = self.work.compute(entry, reading.result, progress=self._windows(step))
                if written is not None:
                    written.result()  # at most one result waits for the disk
                written = writer.submit(self._write, record, case, entry, result, stale.get(case.name, []))
            if written is not None:
                written.result()

    def on_cluster(self, cluster: str, cases: Sequence[InputCase], device: str, *, resume: bool) -> None:
        """Segment the cases on a cluster; with ``resume`` but for those that are finished."""
        from monai_transfer.workflows.segmenting_cluster import (  # here: Dask
            LoadedNetwork,
            resolved,
            segment_on_cluster,
        )

        segmenter, output = self.work.segmenter, self.work.output.resolve()
        bundles = [(Path(bundle.root).resolve(), bundle.checksum) for bundle in segmenter.bundles]
        network = LoadedNetwork(bundles, output, device, segmenter.options, self.work.preview)
        with connected(cluster) as client:
            todo, stale = self._begin(cases, resume=resume)
            tasks = [(resolved(case), entry, stale.get(case.name, [])) for case, entry in todo]
            with Recorder(self.manifest) as record:
                segment_on_cluster(client, network, tasks, lambda entry: self._done(entry, len(todo), record))

    def _begin(self, cases: Sequence[InputCase], *, resume: bool) -> "tuple[list[Task], dict[str, list[str]]]":
        """What is to be done, and the files of earlier runs by case."""
        old = self.manifest.entries()
        todo = []
        for case in cases:
            entry = old.get(case.name)
            asked = list(self.work.products(case).values())
            if resume and entry is not None and self.manifest.is_finished(case, asked, entry):
                self.entries.append(entry)
            else:
                todo.append((case, self.work.pending(case, self.manifest.made_with)))
        # Whose the results will be is written down first: after a kill a file without an entry would be nobody's.
        self.manifest.record(entry for _, entry in todo)
        return todo, {name: list(entry.get("files") or ()) for name, entry in old.items()}

    def _done(self, entry: dict[str, Any], number: int, record: Recorder) -> None:
        self.entries.append(entry)
        record(entry)
        self._tell(CaseProgress(record.number, number, str(entry["case"])))

    def _read_ahead(self, todo: "Sequence[Task]") -> "Iterator[tuple[InputCase, dict[str, Any], Future[Read]]]":
        """Each case with its volume, which is read while the one before is worked on."""
        with ThreadPoolExecutor(1, "read") as reader:
            ahead = [reader.submit(self.work.read, *task) for task in todo[:1]]
            for number, (case, entry) in enumerate(todo):
                current = ahead.pop()
                if number + 1 < len(todo):
                    current.exception()  # wait: no more than one volume is held in advance
                    ahead.append(reader.submit(self.work.read, *todo[number + 1]))
                yield case, entry, current

    def _windows(self, step: CaseProgress) -> Callable[[int, int], None]:
        return lambda done, total: self._tell(replace(step, windows_done=done, windows=total))

    def _tell(self, step: CaseProgress) -> None:
        if self.progress is not None:
            self.progress(step)

    def _write(self, record: Recorder, case: InputCase, entry: dict[str, Any], *work: Any) -> None:
        self.work.write(case, entry, *work)
        self.entries.append(entry)
        record(entry)


Task = tuple[InputCase, dict[str, Any]]
"""A case and its entry in the manifest."""
