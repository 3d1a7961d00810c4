"""Which windows cover a volume, in which order, with which weights: MONAI's grid, sorted along one axis.

Windows that hold only air need not be computed: a coarse mask says where there may be a body, and would rather keep air
than lose tissue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.utils import ensure_tuple_rep, fall_back_tuple
from scipy import ndimage

from monai_transfer.bundle.window import WindowSettings

Start = tuple[int, int, int]

BLOCK = 4
"""Voxels along the edge of a block of the body mask: small beside any window, and 64 times fewer than voxels."""

MARGIN = 8
"""Voxels around the body that count as body, so that no window with an organ at its rim is left out."""

SHARE = 0.05
"""Part of the range of intensities within which a block is dark or flat; the noise of air in a CT stays below it."""


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


def body_mask(image: torch.Tensor) -> np.ndarray:
    """Blocks of a volume that may hold tissue.

    A block of 4×4×4 voxels is empty when it is both dark (its brightest voxel lies in the lowest 5 % of the range of
    intensities) and flat (its voxels differ by less than 5 % of that range), in every channel. That is true of air in
    a windowed CT and of masked background; tissue has noise and texture, and so has the air of many MR scans, which
    then counts as body. Empty blocks that body surrounds (lungs, bowel) count as body, and so does a margin of two
    blocks.

    Args:
        image: the preprocessed volume, (C, X, Y, Z).

    Returns:
        bool, (ceil(X / 4), ceil(Y / 4), ceil(Z / 4)).
    """
    kernel = tuple(min(BLOCK, n) for n in image.shape[1:])
    highest = F.max_pool3d(image[None].float(), kernel, BLOCK, ceil_mode=True)[0]
    lowest = -F.max_pool3d(-image[None].float(), kernel, BLOCK, ceil_mode=True)[0]
    floor = lowest.amin(dim=(1, 2, 3), keepdim=True)
    tolerance = SHARE * (highest.amax(dim=(1, 2, 3), keepdim=True) - floor)
    body = ((highest - floor > tolerance) | (highest - lowest > tolerance)).any(dim=0).cpu().numpy()
    filled = ndimage.binary_fill_holes(body)
    return np.asarray(ndimage.binary_dilation(filled, iterations=MARGIN // BLOCK))


def wanted_windows(image: torch.Tensor, plan: WindowPlan) -> Callable[[Start], bool]:
    """A test that tells whether the window at a start touches the body.

    Args:
        image: the padded volume, (C, *plan.shape).
        plan: the windows.
    """
    mask = body_mask(image)

    def wanted(start: Start) -> bool:
        part = tuple(slice(s // BLOCK, -(-(s + r) // BLOCK)) for s, r in zip(start, plan.roi, strict=True))
        return bool(mask[part].any())

    return wanted
