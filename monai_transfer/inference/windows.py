"""Which windows cover a volume, in which order, and with which weights: MONAI's grid, sorted along one axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.utils import ensure_tuple_rep, fall_back_tuple

from monai_transfer.bundle.window import WindowSettings

Start = tuple[int, int, int]


@dataclass(frozen=True)
class Layer:
    """The windows that begin at the same place along the streaming axis.

    Attributes:
        start: first voxel along the streaming axis.
        stop: first voxel of the next layer: what lies before it is finished with this layer.
        windows: first voxel of each window along the three axes.
    """

    start: int
    stop: int
    windows: tuple[Start, ...]


@dataclass(frozen=True)
class WindowPlan:
    """The windows of one volume.

    Attributes:
        shape: voxels of the volume that the windows cover, padding included.
        padding: (before, after) of each axis, added where the volume is smaller than the window.
        roi: voxels of a window.
        order: the streaming axis, along which the windows are ordered, then the axes of rows and of columns.
        layers: the windows in that order.
        importance: the blending weight of a window, (*roi).
    """

    shape: tuple[int, int, int]
    padding: tuple[tuple[int, int], ...]
    roi: tuple[int, int, int]
    order: tuple[int, int, int]
    layers: tuple[Layer, ...]
    importance: torch.Tensor

    @property
    def axis(self) -> int:
        """The axis along which the windows are ordered."""
        return self.order[0]

    @property
    def count(self) -> int:
        """Number of windows."""
        return sum(len(layer.windows) for layer in self.layers)


def plan_windows(
    shape: Sequence[int],
    settings: WindowSettings,
    *,
    order: tuple[int, int, int] | None = None,
    device: torch.device | str = "cpu",
) -> WindowPlan:
    """Lay the same windows that ``SlidingWindowInferer`` would, ordered along one axis.

    Args:
        shape: voxels of the volume, three axes.
        settings: window size, overlap and blending.
        order: the streaming axis and the axes of rows and columns; by default those of a small slab.
        device: where the importance map lives.
    """
    roi = fall_back_tuple(settings.roi_size, shape)
    padding, padded = [], []
    for n, r in zip(shape, roi, strict=True):
        missing = max(r - n, 0)
        padding.append((missing // 2, missing - missing // 2))
        padded.append(n + missing)
    overlap = ensure_tuple_rep(settings.overlap, 3)
    interval = [r if r == n else max(int(r * (1 - o)), 1) for n, r, o in zip(padded, roi, overlap, strict=True)]
    slices = dense_patch_slices(padded, roi, interval)
    starts = [tuple(int(s.start) for s in window) for window in slices]
    order = streaming_order(padded, roi) if order is None else order
    importance = compute_importance_map(
        tuple(roi), mode=settings.mode, sigma_scale=settings.sigma_scale, device=torch.device(device)
    )
    layers = _layers(starts, order[0], padded[order[0]])
    return WindowPlan(tuple(padded), tuple(padding), tuple(roi), order, layers, importance)  # type: ignore[arg-type]


def streaming_order(shape: Sequence[int], roi: Sequence[int], *, most: float = 1.5) -> tuple[int, int, int]:
    """The order of the axes that makes the slab (window thickness × plane) small.

    The first axis is kept in front, for adding windows is fastest along it, unless another has a slab smaller by more
    than ``most`` times.
    """
    voxels = [roi[a] * shape[(a + 1) % 3] * shape[(a + 2) % 3] for a in range(3)]
    first = next(a for a in (0, *np.argsort(voxels)) if voxels[a] <= most * min(voxels))
    rows, columns = (a for a in range(3) if a != first)
    return int(first), rows, columns


def _layers(starts: Sequence[tuple[int, ...]], axis: int, size: int) -> tuple[Layer, ...]:
    first = sorted({s[axis] for s in starts})
    stops = [*first[1:], size]
    return tuple(
        Layer(begin, stop, tuple(s for s in starts if s[axis] == begin))  # type: ignore[misc]
        for begin, stop in zip(first, stops, strict=True)
    )
