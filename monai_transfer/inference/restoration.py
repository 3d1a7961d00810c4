"""From finished slices on the working grid to labels on the native grid, one native slice at a time.

A native slice lies between two neighbouring working slices. As soon as the second is final, both are interpolated
within their plane, blended, and reduced to labels; the class probabilities of the native volume never exist together.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import torch

from monai_transfer.inference.grids import GridMap
from monai_transfer.inference.resampling import ColumnResizer, lerp_rows
from monai_transfer.inference.taps import Taps

CACHED = 1 << 18
"""Numbers that a part of a plane may hold to stay in a core's cache."""


class Sink(Protocol):
    """Takes the class probabilities of one native slice."""

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """Take a native slice.

        Args:
            index: native slice along the streaming axis.
            rows: native rows that ``slices`` covers; elsewhere no listed class reaches the floor.
            columns: native columns that ``slices`` covers.
            classes: the classes in ``slices``, rising; no other reaches the floor.
            slices: probabilities, (len(classes), rows, columns); may be overwritten.
        """


class Restorer:
    """Interpolates finished working slices onto the native grid and feeds a sink.

    A linear interpolation never exceeds the largest of its taps. With probabilities that add up to one, a class that
    stays below ``1 / classes`` at all taps cannot be the largest there, and where only the background does not, the
    label is background: such classes, rows and columns are left out, without any change of the result.

    Args:
        grid: the way from the working grid to the native grid.
        order: the working axes of slices, rows and columns.
        sink: takes the native slices.
        floor: probability below which a class cannot matter; 0 keeps everything.
        background: class that needs no slices where it alone reaches the floor; None if there is none.
        device: where the interpolation runs.
    """

    def __init__(
        self,
        grid: GridMap,
        *,
        order: Sequence[int],
        sink: Sink,
        floor: float = 0.0,
        background: int | None = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        slow, self.rows, self.columns = (grid.taps[grid.working_axis.index(a)].to(device) for a in order)
        self.sink, self.floor, self.background = sink, floor * (1 - 1e-3), background
        self.due: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
        for native, (lower, upper, lower_weight, upper_weight) in enumerate(
            zip(*(t.tolist() for t in (slow.lower, slow.upper, slow.lower_weight, slow.upper_weight)), strict=True)
        ):
            if lower_weight or upper_weight:
                before = lower_weight if upper != lower else 0.0
                self.due[upper].append((native, before, upper_weight if upper != lower else lower_weight))
        self.carry: torch.Tensor | None = None

    def feed(self, first: int, probabilities: torch.Tensor) -> None:
        """Take the probabilities (n, C, rows, columns) of the working slices from ``first`` on."""
        if self.carry is not None:
            probabilities, first = torch.cat([self.carry, probabilities]), first - 1
        self._restore(first, probabilities, known=0 if self.carry is None else 1)
        self.carry = probabilities[-1:].clone()

    def _restore(self, first: int, probabilities: torch.Tensor, *, known: int) -> None:
        classes, rows, columns = self._relevant(probabilities)
        if not classes:
            return
        native_rows, native_columns = _covered(self.rows, rows), _covered(self.columns, columns)
        column_taps, columns = self.columns.restrict(native_columns)
        resize = ColumnResizer(column_taps)
        chosen = probabilities[:, :, :, columns]
        chosen = chosen if len(classes) == chosen.shape[1] else chosen[:, classes]

        def restore_rows(part: slice) -> None:
            taps, needed = self.rows.restrict(part)
            previous: torch.Tensor | None = None
            for offset, working in enumerate(chosen[:, :, needed]):
                plane = lerp_rows(resize(working), taps)
                for native, before, after in self.due.get(first + offset, ()) if offset >= known else ():
                    blended = plane * after if previous is None or not before else blend(previous, plane, before, after)
                    self.sink.take(native, part, native_columns, classes, blended)
                previous = plane

        size = max(CACHED // (len(classes) * (native_columns.stop - native_columns.start)), 16)
        for start in range(native_rows.start, native_rows.stop, size):
            restore_rows(slice(start, min(start + size, native_rows.stop)))

    def _relevant(self, probabilities: torch.Tensor) -> tuple[list[int], slice, slice]:
        """The classes, working rows and working columns that can matter."""
        everything = slice(0, probabilities.shape[2]), slice(0, probabilities.shape[3])
        if not self.floor:
            return list(range(probabilities.shape[1])), *everything
        reached = probabilities.amax(dim=0) >= self.floor
        per_class = reached.flatten(1).any(dim=1).tolist()
        classes = [c for c, present in enumerate(per_class) if present]
        seen = [c for c in classes if c != self.background]
        if not seen:
            return [], *everything
        where = reached[seen].any(dim=0)
        return classes, _extent(where.any(dim=1)), _extent(where.any(dim=0))


def blend(lower: torch.Tensor, upper: torch.Tensor, before: float, after: float) -> torch.Tensor:
    """``before * lower + after * upper``."""
    if abs(before + after - 1) < 1e-6:
        return torch.lerp(lower, upper, after)
    return (lower * before).add_(upper, alpha=after)


def _extent(present: torch.Tensor) -> slice:
    """From the first to the last true entry."""
    hits = present.nonzero()
    return slice(int(hits[0]), int(hits[-1]) + 1)


def _covered(taps: Taps, inputs: slice) -> slice:
    """The outputs that read any of ``inputs``."""
    reads = (taps.upper >= inputs.start) & (taps.lower < inputs.stop)
    return _extent(reads) if bool(reads.any()) else slice(0, 0)
