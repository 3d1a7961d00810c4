"""Sliding-window inference whose memory grows with one slab, not with the volume.

The windows are MONAI's, sorted along one axis. Their weighted logits are added up in a slab as thick as one window.
When the last window of a layer has been added, the slices before the next layer will not change any more: they are
divided by the sum of their weights, handed on, and the slab rolls forward.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.utils import ensure_tuple_rep, fall_back_tuple

from monai_transfer.bundle.reading import WindowSettings
from monai_transfer.inference.cores import on_all_cores
from monai_transfer.inference.preprocessing import BLOCK, body_mask

Start = tuple[int, int, int]

_LEAST_OVERLAP = 0.125
"""Share of a window that the next covers when time counts: at a half three axes take up to five times the windows."""


def less_overlap(settings: WindowSettings) -> WindowSettings:
    """The settings with at most an eighth of overlap.

    Example:
        >>> less_overlap(WindowSettings((64, 64, 64), overlap=(0.5, 0.5, 0.0))).overlap
        (0.125, 0.125, 0.0)
    """
    given = settings.overlap if isinstance(settings.overlap, tuple) else (settings.overlap,) * len(settings.roi_size)
    return replace(settings, overlap=tuple(min(share, _LEAST_OVERLAP) for share in given))


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
    # MONAI's rule, rounding included, so that the windows are those of its own inferer
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


Predict = Callable[[torch.Tensor], torch.Tensor]
"""Windows (B, C_in, *roi) -> logits (B, C, *roi) in float32, on the accumulator's device."""


CERTAIN = 1e4
"""The logit that stands for certainty where no window was computed."""


class RollingSlab:
    """Weighted sums of logits over a window-thick slab that moves along the streaming axis.

    Args:
        plan: the windows.
        channels: number of classes.
        device: where the slab lives.
    """

    def __init__(self, plan: WindowPlan, channels: int, *, device: torch.device | str) -> None:
        self.plan = plan
        self.order = plan.order
        thickness, *plane = (plan.roi[self.order[0]], *(plan.shape[a] for a in self.order[1:]))
        self.sums = torch.zeros(thickness, channels, *plane, device=device)
        self.weights = torch.zeros(thickness, 1, *plane, device=device)
        self.importance = plan.importance.to(device).permute(self.order).contiguous()

    def add(self, start: Start, logits: torch.Tensor) -> None:
        """Add the logits (C, *roi) of the window at ``start``."""
        rows, columns = (slice(start[a], start[a] + self.plan.roi[a]) for a in self.order[1:])
        moved = logits.permute(1 + self.order[0], 0, 1 + self.order[1], 1 + self.order[2])
        weight = self.importance[:, None]
        sums, weights = (buffer[:, :, rows, columns] for buffer in (self.sums, self.weights))
        on_all_cores(lambda: (sums.addcmul_(moved, weight), weights.add_(weight)))

    def means(self, count: int, *, chunk: int = 8) -> Iterator[torch.Tensor]:
        """The weighted means of the first ``count`` slices, ``chunk`` at a time: (n, C, rows, columns)."""
        for first in range(0, count, chunk):
            part = slice(first, min(first + chunk, count))
            yield on_all_cores(partial(self._mean, part))

    def _mean(self, part: slice) -> torch.Tensor:
        # where no window was computed nothing was added: divided by 1, then made background
        empty = self.weights[part] == 0
        means = self.sums[part] / self.weights[part].masked_fill(empty, 1.0)
        return fill_background(means, empty) if bool(empty.any()) else means

    def roll(self, count: int) -> None:
        """Drop the first ``count`` slices and make room for as many new ones."""
        for buffer in (self.sums, self.weights):
            # in pieces of count slices: the source and the target of a copy then never overlap
            kept = len(buffer) - count
            for first in range(0, kept, count):
                last = min(first + count, kept)
                on_all_cores(partial(buffer[first:last].copy_, buffer[first + count : last + count]))
            buffer[kept:] = 0


def fill_background(means: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """Make the slices certain background where ``empty`` (n, 1, rows, columns): class 0 high, the others low."""
    certain = torch.full((means.shape[1], 1, 1), -CERTAIN, device=means.device)
    if means.shape[1] > 1:
        certain[0] = CERTAIN
    return torch.where(empty, certain, means)


def pad_to_plan(image: torch.Tensor, plan: WindowPlan, *, mode: str = "constant", value: float = 0.0) -> torch.Tensor:
    """Pad a volume (C, X, Y, Z) that is smaller than the window, as ``SlidingWindowInferer`` does."""
    if not any(sum(p) for p in plan.padding):
        return image
    flat = [n for before_after in reversed(plan.padding) for n in before_after]
    if mode == "constant":
        return F.pad(image, flat, mode=mode, value=value)
    return F.pad(image[None], flat, mode=mode)[0]


def stream(
    image: torch.Tensor,
    plan: WindowPlan,
    predict: Predict,
    *,
    channels: int | None = None,
    device: torch.device | str | None = None,
    batch: Callable[[], int] = lambda: 1,
    wanted: Callable[[Start], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Predict window after window and yield the finished slices as soon as they are final.

    Args:
        image: the padded volume, (C_in, *plan.shape).
        plan: the windows.
        predict: the network.
        channels: number of classes; None to learn it from the first window.
        device: where the slab lives; by default with the image.
        batch: asked before each forward pass for the number of windows in it.
        wanted: says whether the window at a start is to be computed; the others count as background.
        progress: called with the number of windows done since the last call.

    Yields:
        (first slice, mean logits (n, C, rows, columns)), slices along ``plan.axis`` in rising order, without the
        padding along that axis and across it.
    """
    if channels is None:
        channels = predict(image[None, :, *(slice(0, r) for r in plan.roi)]).shape[1]
    slab = RollingSlab(plan, channels, device=device or image.device)
    before, after = plan.padding[plan.axis]
    rows, columns = (slice(plan.padding[a][0], plan.shape[a] - plan.padding[a][1]) for a in slab.order[1:])
    last = plan.shape[plan.axis] - after
    for layer in plan.layers:
        _add_layer(slab, image, layer, predict, batch, wanted, progress)
        position = layer.start
        for means in slab.means(layer.stop - layer.start):
            begin, end = max(before - position, 0), min(len(means), last - position)
            if begin < end:
                yield position + begin - before, means[begin:end, :, rows, columns]
            position += len(means)
        slab.roll(layer.stop - layer.start)


def _add_layer(
    slab: RollingSlab,
    image: torch.Tensor,
    layer: Layer,
    predict: Predict,
    batch: Callable[[], int],
    wanted: Callable[[Start], bool] | None,
    progress: Callable[[int], None] | None,
) -> None:
    roi = slab.plan.roi
    waiting = [start for start in layer.windows if wanted is None or wanted(start)]
    if progress is not None and len(waiting) < len(layer.windows):
        progress(len(layer.windows) - len(waiting))
    while waiting:
        size = max(batch(), 1)
        size += size > 1 and len(waiting) == size + 1  # a window left alone would run slower than with two others
        starts, waiting = waiting[:size], waiting[size:]
        cut = [image[None, :, x : x + roi[0], y : y + roi[1], z : z + roi[2]] for x, y, z in starts]
        logits = predict(on_all_cores(partial(torch.cat, cut)))
        for start, window in zip(starts, logits, strict=True):
            slab.add(start, window)
        if progress is not None:
            progress(len(starts))
