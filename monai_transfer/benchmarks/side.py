"""One side of a comparison, or one point of a growth, in a process of its own: its peak of memory is its own.

Called as ``python -m monai_transfer.benchmarks.side SIDE IMAGE BUNDLE OUTPUT OPTIONS``; prints JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from monai.bundle import ConfigParser

from monai_transfer.errors import UserError
from monai_transfer.inference.segmentation import SegmentOptions
from monai_transfer.inference.segmenter import Segmenter
from monai_transfer.machine import peak_memory_mb
from monai_transfer.volumes.reading import read_volume, write_volume
from monai_transfer.workflows.segmenting import segment

_ENOUGH_SECONDS, _MOST_REPETITIONS = 1.0, 5
"""A folder that takes less is segmented again, so often at most: the clock of a shared machine is no better."""


def stock(image: Path, bundle: Path, *, device: str) -> dict[str, Any]:
    """Plain MONAI: the transforms and the inferer of the bundle, one after another."""
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    network = network.to(device).eval()
    before = parser.get_parsed_content("preprocessing").transforms
    inferer = parser.get_parsed_content("inferer")
    after = parser.get_parsed_content("postprocessing").transforms
    seconds: dict[str, float] = {}
    data: Any = {"image": str(image)}
    begin, processor = time.perf_counter(), time.process_time()
    last = begin

    def lap(stage: str) -> None:
        nonlocal last
        if device != "cpu":
            torch.cuda.synchronize()
        now = time.perf_counter()
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now

    with torch.no_grad():
        for transform in before:
            data = transform(data)
            lap("read" if type(transform).__name__ == "LoadImaged" else "preprocess")
        data["image"] = data["image"].to(device)
        data["pred"] = inferer(data["image"][None], network)[0]
        lap("network")
        for transform in after:
            data = transform(data)
            lap("write" if type(transform).__name__ == "SaveImaged" else "restore")
    return {
        "seconds": {**seconds, "total": time.perf_counter() - begin},
        "processor_seconds": time.process_time() - processor,
    }


def ours(image: Path, bundle: Path, output: Path, *, device: str, options: SegmentOptions) -> dict[str, Any]:
    """This package: read, segment, write."""
    segmenter = _ready(bundle, device=device, options=options)
    begin, processor = time.perf_counter(), time.process_time()
    volume = read_volume(image)
    read = time.perf_counter() - begin
    result = segmenter.segment(volume, keep_voxels=False)
    before_write = time.perf_counter()
    write_volume(result.labels, output, like=volume)
    end = time.perf_counter()
    seconds = {**result.seconds, "read": read, "write": end - before_write, "total": end - begin}
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor,
        "windows": result.windows,
        "runtime": segmenter.predictor.used,
    }


def convert(bundle: Path, *, device: str, options: SegmentOptions) -> dict[str, Any]:
    """Convert the network for another runtime: that is done once for a bundle, and is no part of its segmentations."""
    return {"runtime": _ready(bundle, device=device, options=options).predictor.used}


def _ready(bundle: Path, *, device: str, options: SegmentOptions) -> Segmenter:
    segmenter = Segmenter.from_bundle(bundle, device=device, options=options, trust=True)  # of this run
    roi = segmenter.bundle.window.in_3d().roi_size
    segmenter.predictor.prepare(torch.zeros(1, 1, *roi), voxels=0)
    return segmenter


def folder(images: Path, bundle: Path, output: Path, *, device: str, options: SegmentOptions) -> dict[str, Any]:
    """``segment`` on ``images/cases``, after ``images/first``, a small case that pays for what is done once.

    Returns:
        processor and wall seconds (the least of the repetitions), megabytes at the peak and above what was there before
        the cases, and what the start took.
    """
    segmenter = Segmenter.from_bundle(bundle, device=device, options=options, trust=True)  # of this run
    segment(images / "first", segmenter, output / "first")
    start = {"start_seconds": time.process_time(), "start_mb": psutil.Process().memory_info().rss / 2**20}
    took: list[tuple[float, float]] = []
    peaks: list[float] = []
    while len(took) < _MOST_REPETITIONS and sum(wall for _, wall in took) < _ENOUGH_SECONDS:
        processor, wall = time.process_time(), time.perf_counter()
        entries = segment(images / "cases", segmenter, output / str(len(took)))["cases"]
        took.append((time.process_time() - processor, time.perf_counter() - wall))
        if failed := [entry["error"] for entry in entries if entry["status"] != "ok"]:
            raise UserError(failed[0])
        peaks += [peak_memory_mb(), *(entry["peak_memory_mb"] for entry in entries)]  # begun anew by each case
    return {
        "processor_seconds": min(processor for processor, _ in took),
        "wall_seconds": min(wall for _, wall in took),
        "memory_mb": max(peaks) - start["start_mb"],
        "peak_memory_mb": max(peaks),
        **start,
    }


def measure_side(side: str, image: str, bundle: str, output: str, options: str) -> None:
    """Run one side and print what it took."""
    given = json.loads(options)
    device = given.pop("device")
    torch.set_num_threads(given.pop("threads"))
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    if side == "stock":
        measured = stock(Path(image), Path(bundle), device=device)
    elif side == "convert":
        measured = convert(Path(bundle), device=device, options=SegmentOptions(**given))
    else:
        measure = {"ours": ours, "folder": folder}[side]
        measured = measure(Path(image), Path(bundle), target, device=device, options=SegmentOptions(**given))
    measured.setdefault("peak_memory_mb", peak_memory_mb())
    if device != "cpu":
        measured["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    print(json.dumps(measured))


if __name__ == "__main__":
    measure_side(*sys.argv[1:])
