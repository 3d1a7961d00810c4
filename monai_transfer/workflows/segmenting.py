"""Segmenting volumes with a bundle: case n+1 is read while n is computed and n-1 is written; a bad one stops nobody."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_transfer.errors import UserError
from monai_transfer.files import cannot_write, require_folder, sha256, sweep
from monai_transfer.inference.cases import InputCase, Inputs, find_cases, require_there
from monai_transfer.inference.chatter import Chatter
from monai_transfer.inference.dicom_seg import require_highdicom, require_series
from monai_transfer.inference.output_folder import PRODUCTS, Manifest, require_apart, require_unclaimed
from monai_transfer.inference.segmentation import (
    Segmentation,
    SegmentOptions,
    require_room_for_results,
    write_results,
    write_sidecars,
)
from monai_transfer.machine import device_of_process, peak_memory_mb, reset_peak_memory, versions, wait_for_the_others
from monai_transfer.volumes.volume import Volume

if TYPE_CHECKING:
    from monai_transfer.inference.segmenter import Segmenter

logger = logging.getLogger(__name__)


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
    progress: FolderProgress | None = None,
) -> dict[str, Any]:
    """Segment files, folders and DICOM series into ``output/<case>.nii.gz``.

    Under ``torchrun`` (``RANK`` and ``WORLD_SIZE`` in the environment) each process takes its share of the cases and
    the GPU of its ``LOCAL_RANK``; they write one manifest together.

    Args:
        inputs: files and folders.
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
        progress: called as cases and windows are done.

    Returns:
        The manifest: versions, bundle, what was skipped and one entry per case, of all processes on rank 0 and of its
        own on others.

    Raises:
        UserError: when there is no input, the bundle cannot be used, or the output folder may not be written to.
    """
    rank, world = shard or (int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    folder = Path(output).expanduser()
    given = [Path(path).expanduser() for path in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    require_there(given)
    require_apart(given, folder)  # before the bundle is read, which takes a while
    if (options or getattr(bundle, "options", None) or SegmentOptions()).dicom_seg:
        require_highdicom()
    segmenter = _ready(bundle, given, device, options, adapt=adapt, trust=trust, say=say)
    expected = segmenter.bundle
    found = find_cases(given, channels=expected.in_channels, optional=expected.optional_channels, output=folder)
    manifest, cases = Manifest(folder, _head(segmenter, found)), found.cases[rank::world]
    job = _Job(segmenter, folder, manifest, preview=preview, progress=progress)
    files = {case: [case.name + product for product in job.products] for case in cases}
    require_unclaimed(folder, files, manifest, resume=resume, overwrite=overwrite)
    require_folder(folder)
    sweep(folder)
    job.run(cases, resume=resume)
    if rank == 0 or shard is not None:
        write_sidecars(segmenter.label_names, folder)
    if shard is None and world > 1 and "MASTER_ADDR" in os.environ:
        wait_for_the_others()
        if rank == 0:
            return manifest.read()
    return {**manifest.head, "cases": sorted(job.entries, key=lambda e: str(e["case"]))}


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
    options["mirror_axes"] = list(options["mirror_axes"])
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
class _Job:
    """The run of one process over its share of the cases."""

    segmenter: "Segmenter"
    output: Path
    manifest: Manifest
    preview: bool
    progress: FolderProgress | None
    entries: list[dict[str, Any]] = field(default_factory=list)
    chatter: Chatter = field(default_factory=Chatter)

    @property
    def products(self) -> list[str]:
        """The endings of the files that are asked for."""
        options = self.segmenter.options
        asked = (True, options.probabilities, options.uncertainty, self.preview, options.dicom_seg)
        return [product for product, is_asked in zip(PRODUCTS, asked, strict=True) if is_asked]

    def run(self, cases: Sequence[InputCase], *, resume: bool) -> None:
        """Segment the cases; with ``resume`` but for those that are finished."""
        old = self.manifest.entries()
        todo = []
        for case in cases:
            entry = old.get(case.name)
            if resume and entry is not None and self.manifest.is_finished(case, self.products, entry):
                self.entries.append(entry)
            else:
                todo.append((case, self._pending(case)))
        # Whose the results will be is written down first: after a kill a file without an entry would be nobody's.
        self.manifest.record(entry for _, entry in todo)
        stale = {name: list(entry.get("files") or ()) for name, entry in old.items()}
        with self.chatter, ThreadPoolExecutor(1, "write") as writer:
            written: Future[None] | None = None
            for number, (case, entry, reading) in enumerate(self._read_ahead(todo), start=1):
                step = CaseProgress(number, len(todo), case.name)
                result = self._segment(entry, reading, step)
                if written is not None:
                    written.result()  # at most one result waits for the disk
                written = writer.submit(self._write, entry, result, stale.get(case.name, []))
            if written is not None:
                written.result()

    def _pending(self, case: InputCase) -> dict[str, Any]:
        absent = [self.segmenter.channel_names[number] for number in case.absent]
        return {
            "case": case.name, "input": str(case.path), "output": None, "status": "pending", "error": None,
            "warnings": [f"{case.path} is segmented without {', '.join(absent)}."] * bool(absent), "seconds": {},
            "peak_memory_mb": None, "volumes_ml": {}, "files": {}, "asked": self.products, "source": case.where,
            "identity": case.identity(), "made_with": self.manifest.made_with, "absent_channels": absent,
        }  # fmt: skip

    def _read_ahead(self, todo: "Sequence[Task]") -> "Iterator[tuple[InputCase, dict[str, Any], Future[Read]]]":
        """Each case with its volume, which is read while the one before is worked on."""
        with ThreadPoolExecutor(1, "read") as reader:
            ahead = [reader.submit(self._read, *task) for task in todo[:1]]
            for number, (case, entry) in enumerate(todo):
                current = ahead.pop()
                if number + 1 < len(todo):
                    current.exception()  # wait: no more than one volume is held in advance
                    ahead.append(reader.submit(self._read, *todo[number + 1]))
                yield case, entry, current

    def _read(self, case: InputCase, entry: dict[str, Any]) -> "Read":
        begin = time.perf_counter()
        with self.chatter.about(entry["warnings"]):
            volume = case.read(self.segmenter.options.reading)
        return volume, time.perf_counter() - begin

    def _segment(self, entry: dict[str, Any], reading: "Future[Read]", step: CaseProgress) -> Segmentation | None:
        reset_peak_memory()
        self._tell(step)
        try:
            volume, seconds = reading.result()
            entry["warnings"] += [note.message for note in getattr(volume, "notes", ())]
            options, classes = self.segmenter.options, len(self.segmenter.label_names)
            if options.dicom_seg:
                require_series(volume)
            require_room_for_results(self.output, volume, options, classes=classes)
            with self.chatter.about(entry["warnings"]):
                result = self.segmenter.segment(
                    volume, progress=lambda done, total: self._tell(replace(step, windows_done=done, windows=total))
                )
        except UserError as error:
            entry["error"] = str(error)
        except Exception as error:
            logger.debug("%s failed", entry["input"], exc_info=True)
            entry["error"] = f"{entry['input']}: {type(error).__name__}: {error}"
        else:
            result.seconds["read"] = seconds
            entry["seconds"] = {k: round(v, 4) for k, v in result.seconds.items()}
            entry["peak_memory_mb"] = peak_memory_mb()
            entry["volumes_ml"] = result.volumes_ml
            entry["runtime"] = self.segmenter.predictor.used
            entry["windows"] = {"computed": result.windows[0], "all": result.windows[1]}
            return result
        return None

    def _tell(self, step: CaseProgress) -> None:
        if self.progress is not None:
            self.progress(step)

    def _write(self, entry: dict[str, Any], result: Segmentation | None, stale: Sequence[str]) -> None:
        begin = time.perf_counter()
        entry["status"] = "failed"
        if result is not None:
            try:
                with self.chatter.about(entry["warnings"]):
                    written = write_results(result, self.output, entry["case"], self.products)
                entry |= {"output": str(written[0]), "status": "ok"}
                entry["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in written}
            except (UserError, OSError) as error:
                told = cannot_write(self.output / entry["case"], error) if isinstance(error, OSError) else error
                entry["error"] = str(told)
            except Exception as error:
                logger.debug("%s cannot be written", entry["case"], exc_info=True)
                entry["error"] = f"The result of {entry['input']} cannot be written: {type(error).__name__}: {error}"
            entry["seconds"]["write"] = round(time.perf_counter() - begin, 4)
        for name in set(stale) - set(entry["files"]):
            # A side product that was not asked for again, or a result whose input now fails, would be taken for new.
            (self.output / Path(name).name).unlink(missing_ok=True)
        self.entries.append(entry)
        self.manifest.record([entry])


Read = tuple[Volume, float]
"""A volume, and the seconds that reading it took."""

Task = tuple[InputCase, dict[str, Any]]
"""A case and its entry in the manifest."""
