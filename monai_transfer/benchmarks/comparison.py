"""Both sides on the same volume, and the ratios between them."""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import torch
from pydantic import Field

from monai_transfer.benchmarks.scene import write_bundle, write_ct
from monai_transfer.errors import UserError
from monai_transfer.inference.conversion import is_installed
from monai_transfer.machine import choose_device, hardware, has_bfloat16, require_memory, versions
from monai_transfer.options import Backbone, Blending, Classes, Runtime, Seed, Spacing, Threads, validated

Voxels = Annotated[int, Field(title="--shape", ge=1, le=4096)]

OTHER_RUNTIMES: tuple[Runtime, ...] = ("openvino", "onnx")
"""Measured beside PyTorch where they are installed."""

STAGES = ("read", "preprocess", "network", "restore", "write", "total")

_LOW_OPENVINO = "openvino_bfloat16"


@validated
class BenchmarkSettings:
    """What is measured.

    Attributes:
        shape: voxels of the volume.
        spacing: its voxel size in mm.
        classes: number of classes, background included.
        backbone: ``unet`` (a small U-Net), ``resnet18`` (``FlexibleUNet``), or ``pointwise``, which looks at one voxel
            and costs next to nothing, so that what is left is the package.
        overlap: of the windows.
        mode: ``gaussian`` or ``constant`` blending.
        roi: voxels of a window along each axis.
        steps: training steps of the network before it is measured; 0 leaves its weights random.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads of each side.
        variants: also measure the other runtimes that are installed, bfloat16 where the processor has it, and the
            skipping of empty windows.
        stock: run MONAI's side; without it only this package is measured.
        seed: of the volume and the weights.

    Example:
        >>> settings = BenchmarkSettings(shape=(64, 64, 40), classes=3, steps=0)
        >>> settings.shape, settings.overlap
        ((64, 64, 40), 0.25)
    """

    shape: tuple[Voxels, Voxels, Voxels] = (512, 512, 200)
    spacing: tuple[Spacing, Spacing, Spacing] = (0.8, 0.8, 1.5)
    classes: Classes = 5
    backbone: Backbone = "unet"
    overlap: Annotated[float, Field(ge=0, le=0.95)] = 0.25
    mode: Blending = "gaussian"
    roi: Annotated[int, Field(ge=16, le=1024)] = 96
    steps: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    device: str = "cpu"
    threads: Threads = 2
    variants: bool = True
    stock: bool = True
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse an absent device, and volumes that do not fit into memory."""
        choose_device(self.device)
        # stock MONAI keeps the sum of all windows' logits in float32 on the whole volume, this package the volume alone
        voxels = math.prod(self.shape)
        needed = voxels * 4 * (self.classes if self.stock else 1)
        remedy = "give a smaller --shape" + (" or --no-stock" if self.stock else "")
        require_memory(needed, f"--shape of {voxels} voxels", remedy)


def compare(settings: BenchmarkSettings, *, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Generate a CT, segment it with plain MONAI and with this package, and compare time, memory and labels.

    Args:
        settings: what is measured.
        progress: told what is being done.

    Returns:
        ``speedup`` (stock / ours, wall time) and ``processor_speedup``, ``memory_ratio`` (ours / stock, peak of
        resident memory), ``agreement`` (share of equal voxels), ``seconds`` per stage of both sides, and the same for
        the variants.

    Raises:
        UserError: when one side fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(settings, Path(folder), progress)
        bench.prepare()
        plain = {"skip_empty": False, "runtime": "torch"}
        measured = {"ours": bench.run("ours", "ours", plain)}
        if settings.stock:
            measured["stock"] = bench.run("stock", "stock", {})
        if settings.variants:
            for runtime in OTHER_RUNTIMES:
                if is_installed(runtime):
                    bench.run(runtime, "convert", {"runtime": runtime})
                    measured[runtime] = bench.run(runtime, "ours", {**plain, "runtime": runtime})
            if settings.device != "cpu" or has_bfloat16():
                low = {**plain, "precision": "bfloat16"}
                measured["bfloat16"] = bench.run("bfloat16", "ours", low)
                if settings.device == "cpu" and is_installed("openvino"):
                    measured[_LOW_OPENVINO] = bench.run(_LOW_OPENVINO, "ours", {**low, "runtime": "openvino"})
            measured["skip_empty"] = bench.run("skip_empty", "ours", {**plain, "skip_empty": True})
        return _report(bench, measured)


@dataclass
class _Bench:
    settings: BenchmarkSettings
    folder: Path
    progress: Callable[[str], None]

    def prepare(self) -> None:
        s = self.settings
        self.progress(f"Generating a CT of {'×'.join(map(str, s.shape))} voxels")
        write_ct(self.folder / "ct.nii.gz", shape=s.shape, spacing=s.spacing, classes=s.classes, seed=s.seed)
        self.progress(f"Training the {s.backbone} for {s.steps} steps")
        torch.set_num_threads(s.threads)
        write_bundle(
            self.folder / "bundle",
            classes=s.classes,
            backbone=s.backbone,
            overlap=s.overlap,
            mode=s.mode,
            roi=s.roi,
            steps=s.steps,
            seed=s.seed,
        )

    def labels(self, name: str) -> np.ndarray:
        image = nibabel.load(self.folder / name / "ct.nii.gz")
        return np.asarray(image.dataobj, dtype=np.uint8)

    def run(self, name: str, side: str, options: Mapping[str, Any]) -> dict[str, Any]:
        self.progress(f"{'Converting for' if side == 'convert' else 'Measuring'} {name}")
        given = {**options, "device": self.settings.device}
        image, bundle, output = (self.folder / p for p in ("ct.nii.gz", "bundle", f"{name}/ct.nii.gz"))
        threads, remedy = self.settings.threads, "try a smaller --shape"
        return run_side(side, image, bundle, output, given, threads=threads, remedy=remedy)


def run_side(
    side: str, image: Path, bundle: Path, output: Path, options: Mapping[str, Any], *, threads: int, remedy: str
) -> dict[str, Any]:
    """Run one side in a process of its own, see :mod:`monai_transfer.benchmarks.side`.

    Args:
        side: ``"stock"``, ``"ours"``, ``"convert"`` or ``"folder"``.
        image: the volume, or the folder.
        bundle: the network; what is converted of it is kept beside it.
        output: where the labels go.
        options: of the segmentation, and the device.
        threads: of the process.
        remedy: ends the sentence where the side fails.

    Raises:
        UserError: it failed.
    """
    given = json.dumps({**options, "threads": threads})
    command = [
        sys.executable,
        "-m",
        "monai_transfer.benchmarks.side",
        side,
        str(image),
        str(bundle),
        str(output),
        given,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    environment["MONAI_TRANSFER_CACHE"] = str(bundle.parent / "cache")  # this network serves nobody else
    environment["BENCHMARK_OUTPUT"] = str(output.parent)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, probably for memory"])[-1]
        raise UserError(f"The side '{side}' failed ({last}); {remedy}.")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _report(bench: _Bench, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    ours, stock = measured["ours"], measured.get("stock")
    reference = bench.labels("stock" if stock else "ours")
    total = ours["seconds"]["total"]

    def against(name: str) -> dict[str, Any]:
        side = measured[name]
        result = {
            "agreement": float((bench.labels(name) == reference).mean()),
            "network_share": side["seconds"]["network"] / side["seconds"]["total"],
        }
        if stock:
            result["speedup"] = stock["seconds"]["total"] / side["seconds"]["total"]
            # where others take the cores, the wall time is theirs as well
            result["processor_speedup"] = stock["processor_seconds"] / side["processor_seconds"]
            result["memory_ratio"] = side["peak_memory_mb"] / stock["peak_memory_mb"]
        else:
            result["speedup_over_plain"] = total / side["seconds"]["total"]
        return {k: round(v, 6) for k, v in result.items()}

    report = against("ours")
    report["seconds"] = {
        name: {stage: round(side["seconds"].get(stage, 0.0), 3) for stage in STAGES} for name, side in measured.items()
    }
    report["processor_seconds"] = {name: round(side["processor_seconds"], 3) for name, side in measured.items()}
    report["peak_memory_mb"] = {name: side["peak_memory_mb"] for name, side in measured.items()}
    report["peak_gpu_memory_mb"] = {
        n: m["peak_gpu_memory_mb"] for n, m in measured.items() if "peak_gpu_memory_mb" in m
    }
    report["runtimes"] = {name: side["runtime"] for name, side in measured.items() if "runtime" in side}
    report["windows"] = {name: side["windows"] for name, side in measured.items() if "windows" in side}
    report |= {name: against(name) for name in measured if name not in ("ours", "stock")}
    report["stock_needs_at_least_mb"] = _stock_estimate_mb(bench.settings)
    report["settings"] = asdict(bench.settings)
    report["hardware"] = {"machine": platform.machine(), **hardware()}
    report["versions"] = versions()
    return report


def _stock_estimate_mb(settings: BenchmarkSettings) -> float:
    """A lower bound of what MONAI's side holds at once: the native class probabilities in float64 and float32."""
    return round(float(np.prod(settings.shape)) * settings.classes * (8 + 4) / 2**20, 1)
