"""Segmenting many volumes: case n+1 is read while n is computed and n-1 is written; a bad one stops nobody."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from monai_transfer.errors import UserError
from monai_transfer.inference.cases import InputCase, find_cases
from monai_transfer.inference.manifest import Manifest
from monai_transfer.inference.preview import write_preview
from monai_transfer.inference.segmentation import Segmentation
from monai_transfer.inference.segmenter import Segmenter, SegmentOptions
from monai_transfer.inference.sidecars import write_sidecars
from monai_transfer.inference.sinks import PROBABILITY_SCALE
from monai_transfer.machine import peak_memory_mb, reset_peak_memory, versions
from monai_transfer.volumes.reading import Volume
from monai_transfer.volumes.writing import write_like

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


def segment_folder(
    inputs: str | Path | Sequence[str | Path],
    bundle: str | Path | Sequence[str | Path] | Segmenter,
    output: str | Path,
    *,
    device: str = "auto",
    options: SegmentOptions | None = None,
    preview: bool = False,
    resume: bool = False,
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
        preview: write ``<case>_preview.png``.
        resume: skip the cases that an earlier run with the same bundle and options finished.
        progress: called as cases and windows are done.

    Returns:
        the manifest: versions, bundle and one entry per case, of all processes on rank 0 and of its own on others.

    Raises:
        UserError: when there is no input, or the bundle cannot be used.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if device in ("auto", "cuda") and world > 1 and (local := os.environ.get("LOCAL_RANK")) is not None:
        device = _local_device(device, int(local))
    given = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    segmenter = (
        bundle if isinstance(bundle, Segmenter) else Segmenter.from_bundle(bundle, device=device, options=options)
    )
    cases = find_cases([Path(i).expanduser() for i in given], channels=segmenter.bundle.in_channels)
    manifest = Manifest(Path(output), _head(segmenter))
    job = _Job(segmenter, Path(output), manifest, preview=preview, progress=progress)
    job.run(cases[rank::world], finished=manifest.finished() if resume else {})
    if rank == 0:
        write_sidecars(segmenter.label_names, Path(output))
    if world > 1 and "MASTER_ADDR" in os.environ:
        _wait_for_the_others()
        if rank == 0:
            return manifest.read()
    return {**manifest.head, "cases": sorted(job.entries, key=lambda e: str(e["case"]))}


def _local_device(device: str, local_rank: int) -> str:
    import torch

    return f"cuda:{local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else device


def _wait_for_the_others() -> None:
    """Let all processes of ``torchrun`` end together, for it stops them all when one ends with a fault to report."""
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=timedelta(days=7))
    distributed.barrier()


def _head(segmenter: Segmenter) -> dict[str, Any]:
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
    }


@dataclass
class _Job:
    """The run of one process over its share of the cases."""

    segmenter: Segmenter
    output: Path
    manifest: Manifest
    preview: bool
    progress: FolderProgress | None
    entries: list[dict[str, Any]] = field(default_factory=list)

    def run(self, cases: Sequence[InputCase], *, finished: dict[str, dict[str, Any]]) -> None:
        """Segment the cases; those in ``finished`` whose result is still there are skipped."""
        todo = []
        for case in cases:
            entry = finished.get(case.name)
            if entry and entry["input"] == str(case.path) and Path(entry["output"]).is_file():
                self.entries.append(entry)
            else:
                todo.append(case)
        with ThreadPoolExecutor(1, "write") as writer:
            written: Future[None] | None = None
            for number, (case, reading) in enumerate(_read_ahead(todo), start=1):
                step = CaseProgress(number, len(todo), case.name)
                entry, result = self._segment(case, reading, step)
                if written is not None:
                    written.result()  # at most one result waits for the disk
                written = writer.submit(self._write, entry, result)
            if written is not None:
                written.result()

    def _segment(
        self, case: InputCase, reading: "Future[tuple[Volume, float]]", step: CaseProgress
    ) -> tuple[dict[str, Any], Segmentation | None]:
        entry: dict[str, Any] = {
            "case": case.name, "input": str(case.path), "output": None, "status": "failed", "error": None,
            "seconds": {}, "peak_memory_mb": None, "volumes_ml": {},
        }  # fmt: skip
        reset_peak_memory()
        self._tell(step)
        try:
            volume, seconds = reading.result()
            result = self.segmenter.segment(
                volume,
                progress=lambda done, total: self._tell(CaseProgress(step.number, step.cases, step.name, done, total)),
            )
            result.seconds["read"] = seconds
            entry |= {
                "seconds": {k: round(v, 4) for k, v in result.seconds.items()},
                "peak_memory_mb": peak_memory_mb(),
                "volumes_ml": result.volumes_ml,
                "windows": {"computed": result.windows[0], "all": result.windows[1]},
            }
        except UserError as error:
            entry["error"] = str(error)
        except Exception as error:
            logger.debug("%s failed", case.path, exc_info=True)
            entry["error"] = f"{case.path}: {type(error).__name__}: {error}"
        else:
            return entry, result
        return entry, None

    def _tell(self, step: CaseProgress) -> None:
        if self.progress is not None:
            self.progress(step)

    def _write(self, entry: dict[str, Any], result: Segmentation | None) -> None:
        if result is not None:
            begin = time.perf_counter()
            try:
                entry["output"] = str(self._write_files(str(entry["case"]), result))
                entry["status"] = "ok"
            except OSError as error:
                entry["error"] = f"The result of {entry['input']} cannot be written: {error}"
            entry["seconds"]["write"] = round(time.perf_counter() - begin, 4)
        self.entries.append(entry)
        self.manifest.record(entry)

    def _write_files(self, name: str, result: Segmentation) -> Path:
        path = self.output / f"{name}.nii.gz"
        if result.stored_probabilities is not None:
            stored = np.moveaxis(result.stored_probabilities, 0, -1)
            where = self.output / f"{name}_probabilities.nii.gz"
            write_like(stored, result.source, where, slope=1.0 / PROBABILITY_SCALE)
        if result.entropy is not None:
            write_like(result.entropy.astype(np.float32), result.source, self.output / f"{name}_uncertainty.nii.gz")
        if self.preview and len(result.source.shape) == 3:
            where = self.output / f"{name}_preview.png"
            write_preview(result.source.array[0], result.labels, result.affine, where)
        write_like(result.labels, result.source, path)
        return path


def _read(case: InputCase) -> tuple[Volume, float]:
    begin = time.perf_counter()
    return case.read(), time.perf_counter() - begin


def _read_ahead(cases: Sequence[InputCase]) -> "Iterator[tuple[InputCase, Future[tuple[Volume, float]]]]":
    """Each case with its volume, which is read while the one before is worked on."""
    with ThreadPoolExecutor(1, "read") as reader:
        ahead = [reader.submit(_read, case) for case in cases[:1]]
        for number, case in enumerate(cases):
            current = ahead.pop()
            if number + 1 < len(cases):
                current.exception()  # wait: no more than one volume is held in advance
                ahead.append(reader.submit(_read, cases[number + 1]))
            yield case, current
