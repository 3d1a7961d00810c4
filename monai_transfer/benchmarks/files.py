"""Reading and writing of compressed NIfTI, this package's way and nibabel's in turns."""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import nibabel
import numpy as np
from pydantic import Field

from monai_transfer.benchmarks.comparison import Voxels
from monai_transfer.benchmarks.scene import write_ct
from monai_transfer.errors import UserError
from monai_transfer.machine import hardware, require_memory, versions
from monai_transfer.options import Seed, validated
from monai_transfer.volumes.reading import read_volume, write_volume

_SPACING = (0.8, 0.8, 1.5)
_CLASSES = 5
_ARRAYS = 4
"""Volumes of int16 that are held at once: both sides' and what is being packed."""


@validated
class FileSettings:
    """What is read and written.

    Attributes:
        shape: voxels of the volume.
        rounds: how often each side reads and writes, the two in turns.
        seed: of the volume.
    """

    shape: tuple[Voxels, Voxels, Voxels] = (512, 512, 400)
    rounds: Annotated[int, Field(title="--rounds", ge=1, le=1000)] = 3
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse volumes that do not fit into memory."""
        voxels = math.prod(self.shape)
        require_memory(2 * _ARRAYS * voxels, f"--shape of {voxels} voxels", "give a smaller --shape")


def file_costs(settings: FileSettings, *, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Read and write a generated CT (int16, noise of 15 HU) and its label map (uint8) as ``.nii.gz``.

    Both sides read the same file, which nibabel wrote, and write the array that they read.

    Args:
        settings: what is read and written.
        progress: told what is being done.

    Returns:
        kind of volume -> ``processor`` and ``wall``, ours / nibabel's of the ``read``, the ``write`` and ``both``
        (median of the rounds' seconds), those seconds, and ``size``, ours / nibabel's of the files.

    Raises:
        UserError: what was written is not what was read.
    """
    report: dict[str, Any] = {"shape": list(settings.shape), "rounds": settings.rounds}
    with TemporaryDirectory() as folder:
        image = Path(folder) / "ct.nii.gz"
        progress(f"Generating a CT of {'×'.join(map(str, settings.shape))} voxels")
        write_ct(image, shape=settings.shape, spacing=_SPACING, classes=_CLASSES, seed=settings.seed)
        labels = Path(folder) / "labels.nii.gz"
        _write_labels(image, labels)
        for kind, path in {"image": image, "labels": labels}.items():
            progress(f"Reading and writing the {kind}, {settings.rounds} times")
            report[kind] = _compared(path, settings.rounds)
    return report | {"hardware": hardware(), "versions": versions()}


def _write_labels(image: Path, path: Path) -> None:
    """A map of four intensities of the body without its noise: large pieces with ragged borders."""
    ct = nibabel.load(image)
    array = np.asarray(ct.dataobj)
    labels = np.zeros(array.shape, np.uint8, order="F")
    for edge in (-500, 60, 120, 180):  # np.digitize would hold 64-bit integers
        labels += array >= edge
    nibabel.save(nibabel.Nifti1Image(labels, ct.affine), path)


def _compared(path: Path, rounds: int) -> dict[str, Any]:
    ours, theirs = path.with_name("ours.nii.gz"), path.with_name("nibabel.nii.gz")
    clocks: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time(), time.perf_counter()
        result = work()
        clocks.setdefault(name, []).append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
        return result

    for _ in range(rounds):
        image = timed("nibabel_read", partial(_loaded, path))
        volume = timed("read", partial(read_volume, path))
        array = np.asarray(image.dataobj)
        timed("nibabel_write", partial(nibabel.save, image, theirs))
        timed("write", partial(write_volume, array, ours, like=volume))
    if not np.array_equal(np.asarray(nibabel.load(ours).dataobj), array):
        raise UserError(f"{ours} holds other voxels than {path}: please report it.")
    seconds = {name: [median(clock) for clock in zip(*each, strict=True)] for name, each in clocks.items()}
    result: dict[str, Any] = {"seconds": {name: [round(s, 6) for s in both] for name, both in seconds.items()}}
    for number, clock in enumerate(("processor", "wall")):
        costs = {side: [seconds[f"{side}{work}"][number] for work in ("read", "write")] for side in ("", "nibabel_")}
        pairs = zip(("read", "write"), costs[""], costs["nibabel_"], strict=True)
        result[clock] = {work: round(mine / other, 3) for work, mine, other in pairs}
        result[clock]["both"] = round(sum(costs[""]) / sum(costs["nibabel_"]), 3)
    return result | {"size": round(ours.stat().st_size / theirs.stat().st_size, 3)}


def _loaded(path: Path) -> nibabel.Nifti1Image:
    """With its voxels in memory."""
    image = nibabel.load(path)
    return nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
