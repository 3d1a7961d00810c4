"""How the cost of ``segment`` grows with the volume, the classes and the number of cases."""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from monai_transfer.benchmarks.comparison import run_side
from monai_transfer.benchmarks.scene import write_bundle, write_ct
from monai_transfer.machine import hardware, require_memory, versions
from monai_transfer.options import Seed, Threads, validated

_SPACING = (0.75, 0.75, 1.0)
"""Millimetres. The working grid (1.5×1.5×2 mm) then has half the voxels along each axis."""

_WINDOW = 32
"""Voxels of a window along each axis, without overlap: a volume of 64³ is one window, and twice as many voxels are
twice as many windows. With overlap the first window overlaps nothing, and their number alone grows by more than 1."""

_FEW_CLASSES = 5
_EDGES = (64, 128, 256, 512)
_STEP = 4
"""Each number of classes or cases is so many times the one before."""

Edge = Annotated[int, Field(title="--largest", ge=65, le=4096)]

COSTS = ("processor_seconds", "wall_seconds", "memory_mb")
"""What is fitted; all are above the start of the process and of its first, small case."""


@validated
class GrowthSettings:
    """How far is measured.

    Attributes:
        largest: voxels of the largest volume; the others are cubes of 64, 128, 256 and 512 within it.
        classes: the most classes, background included; from 2 on.
        cases: the most cases in a folder, each of 64³ voxels; from 1 on.
        threads: CPU threads of each process.
        seed: of the volumes.

    Example:
        >>> GrowthSettings(largest=(128, 128, 100)).volumes
        [(64, 64, 64), (128, 128, 100)]
    """

    largest: tuple[Edge, Edge, Edge] = (512, 512, 800)
    classes: Annotated[int, Field(title="--classes", ge=3, le=4096)] = 117
    cases: Annotated[int, Field(title="--cases", ge=2, le=100_000)] = 200
    threads: Threads = 1
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse volumes that do not fit into memory."""
        voxels = math.prod(self.largest)
        require_memory(4 * voxels, f"--largest of {voxels} voxels", "give a smaller --largest")

    @property
    def volumes(self) -> list[tuple[int, int, int]]:
        """The shapes that are measured, the smallest first."""
        x, y, z = self.largest
        shapes = [(min(edge, x), min(edge, y), min(edge, z)) for edge in _EDGES]
        return list(dict.fromkeys([*shapes, (x, y, z)]))


def measure_growth(settings: GrowthSettings, *, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run ``segment`` on growing volumes, with growing numbers of classes, and on growing folders.

    Each point is a process of its own, with a network that looks at one voxel (``pointwise`` of
    :data:`~monai_transfer.benchmarks.scene.BACKBONES`), so that the package is measured and not the convolutions.

    Args:
        settings: how far.
        progress: told what is being done.

    Returns:
        for ``volume``, ``classes`` and ``cases`` the points, the fitted exponents and those between the last two
        points; ``largest_exponent`` of the fitted ones.

    Raises:
        UserError: a point cannot be measured.
    """
    # Classes are counted on a volume whose slices are large enough for them to be what it costs.
    middle = [shape for shape in settings.volumes if max(shape) <= _EDGES[2]][-1]
    smallest = settings.volumes[0]
    plans = {
        "volume": [(shape, _FEW_CLASSES, 1) for shape in settings.volumes],
        "classes": [(middle, classes, 1) for classes in ladder(2, settings.classes)],
        "cases": [(smallest, _FEW_CLASSES, cases) for cases in ladder(1, settings.cases)],
    }
    series: dict[str, dict[str, Any]] = {}
    for name, plan in plans.items():
        points = [_point(settings, *each, progress=progress) for each in plan]
        key = {"volume": "voxels"}.get(name, name)
        sizes = [point[key] for point in points]
        costs = {cost: [point[cost] for point in points] for cost in COSTS}
        series[name] = {
            "points": points,
            "exponents": {cost: exponent(sizes, found) for cost, found in costs.items()},
            "last_exponents": {cost: exponent(sizes[-2:], found[-2:]) for cost, found in costs.items()},
        }
    return {
        "series": series,
        "largest_exponent": max(value for each in series.values() for value in each["exponents"].values()),
        "threads": settings.threads,
        "hardware": hardware(),
        "versions": versions(),
    }


def ladder(first: int, last: int) -> list[int]:
    """Numbers from the first to the last, each four times the one before but for the last.

    Example:
        >>> ladder(2, 117)
        [2, 8, 32, 117]
    """
    steps = int(math.log(last / first, _STEP) - 0.25)  # the last step is not much smaller than the others
    return [first * _STEP**step for step in range(steps + 1)] + [last]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost over log size by least squares: the ``p`` of ``cost = c · size^p``.

    Example:
        >>> exponent([1, 2, 4], [3.0, 6.0, 12.0])
        1.0
    """
    slope, _ = np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-3)), 1)
    return round(float(slope), 3)


def _point(
    settings: GrowthSettings, shape: tuple[int, int, int], classes: int, cases: int, *, progress: Callable[[str], None]
) -> dict[str, Any]:
    progress(f"{'×'.join(map(str, shape))} voxels, {classes} classes, {cases} case{'s' * (cases > 1)}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("first", "cases"):
            (root / part).mkdir()
        scene = {"spacing": _SPACING, "seed": settings.seed, "classes": _FEW_CLASSES}
        write_ct(root / "first" / "ct.nii.gz", shape=[_WINDOW] * 3, **scene)  # type: ignore[arg-type]
        original = root / "cases" / "ct_0.nii.gz"
        write_ct(original, shape=shape, **scene)  # type: ignore[arg-type]
        for number in range(1, cases):
            original.with_name(f"ct_{number}.nii.gz").write_bytes(original.read_bytes())
        write_bundle(
            root / "bundle",
            classes=classes,
            backbone="pointwise",
            overlap=0.0,
            mode="gaussian",
            roi=_WINDOW,
            steps=0,
            seed=settings.seed,
        )
        options = {"skip_empty": False, "runtime": "torch", "device": "cpu"}
        measured = run_side(
            "folder",
            root,
            root / "bundle",
            root / "labels",
            options,
            threads=settings.threads,
            remedy="give a smaller --largest, --classes or --cases",
        )
    facts = {"shape": list(shape), "voxels": math.prod(shape), "classes": classes, "cases": cases}
    return facts | {name: round(value, 3) for name, value in measured.items()}
