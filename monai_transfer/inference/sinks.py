"""What becomes of a native slice of class probabilities: labels, masks, stored probabilities, uncertainty.

Finished labels are counted here, given their values, and treated as the bundle asks.
"""

import math
import tempfile
from collections.abc import Collection, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Transform

from monai_transfer.bundle.reading import Decision
from monai_transfer.inference.cleaning import keep_single_pieces, single_pieces_of
from monai_transfer.inference.cores import one_core_each
from monai_transfer.inference.segmentation import PROBABILITY_SCALE
from monai_transfer.volumes.volume import Volume

_COUNTED = 1 << 22
"""Voxels that are counted at a time."""

MOST_IN_MEMORY = 2 << 30
"""Bytes of probabilities that are kept in memory; more lie in a temporary file."""

NativeArrays = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Labels, probabilities and entropy on the native grid; masks and probabilities have a first axis of classes."""


class Sink(Protocol):
    """Takes the class probabilities of native slices, from several threads at once, each with rows of its own."""

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """Take a native slice.

        Args:
            index: native slice along the streaming axis.
            rows: native rows that ``slices`` covers; elsewhere no listed class reaches the floor.
            columns: native columns that ``slices`` covers.
            classes: the classes in ``slices``, rising; no other reaches the floor.
            slices: probabilities, (len(classes), rows, columns); may be overwritten.
        """


class ArgmaxSink:
    """The class of the largest probability; the lower class where two are equal, background where all are zero.

    Args:
        shape: (slices, rows, columns) of the native grid in streaming order.
        classes: number of classes.
        device: where the labels are gathered.
    """

    def __init__(self, shape: Sequence[int], classes: int, *, device: torch.device | str = "cpu") -> None:
        self.dtype = torch.uint8 if classes <= 256 else torch.int16
        self.result = torch.zeros(tuple(shape), dtype=self.dtype, device=device)

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """See :class:`Sink`."""
        shape = slices.shape[1:]
        label = torch.zeros(shape, dtype=self.dtype, device=slices.device)
        best = slices[0].clone() if classes[0] == 0 else torch.zeros(shape, device=slices.device)
        for number, probability in zip(classes, slices, strict=True):
            if number:
                # Classes come in rising order, so the latest winner is also the largest number.
                won = torch.gt(probability, best).to(self.dtype).mul_(number)
                torch.maximum(label, won, out=label)
                torch.maximum(best, probability, out=best)
        self.result[index, rows, columns] = label


class ThresholdSink:
    """One mask per class where its probability reaches a threshold; classes may overlap."""

    def __init__(
        self, shape: Sequence[int], classes: int, *, threshold: float = 0.5, device: torch.device | str = "cpu"
    ) -> None:
        self.threshold = threshold
        self.result = torch.zeros((classes, *shape), dtype=torch.uint8, device=device)

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """See :class:`Sink`."""
        for number, probability in zip(classes, slices, strict=True):
            self.result[number, index, rows, columns] = (probability >= self.threshold).to(torch.uint8)


class ProbabilitySink:
    """All probabilities as 16-bit integers (0 to 65535), on the host; in a temporary file where they are many.

    Args:
        shape: (slices, rows, columns) of the native grid in streaming order.
        classes: number of classes.
        most: bytes that are kept in memory.
    """

    def __init__(self, shape: Sequence[int], classes: int, *, most: int = MOST_IN_MEMORY) -> None:
        full = (classes, *shape)
        if 2 * math.prod(full) <= most:
            self.array: np.ndarray = np.zeros(full, dtype=np.uint16)
        else:
            with tempfile.TemporaryFile() as file:  # it lives on as long as the map
                self.array = np.memmap(file, dtype=np.uint16, mode="w+", shape=full)

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """See :class:`Sink`."""
        scaled = slices.mul(PROBABILITY_SCALE).round_().clamp_(0, PROBABILITY_SCALE).to(torch.int32).cpu().numpy()
        for number, values in zip(classes, scaled, strict=True):
            self.array[number, index, rows, columns] = values


class EntropySink:
    """Uncertainty: the entropy of the class probabilities divided by its maximum, 0 (certain) to 1.

    ``-sum_c p_c log p_c / log C`` for exclusive classes; for independent (sigmoid) classes the mean of the binary
    entropies in bits.
    """

    def __init__(self, shape: Sequence[int], classes: int, *, exclusive: bool = True) -> None:
        self.result = torch.zeros(tuple(shape))
        self.exclusive = exclusive
        self.classes = classes

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """See :class:`Sink`."""
        # 0 log 0 is 0 in the limit, and NaN in arithmetic
        probability = slices.clamp(1e-7, 1.0)
        entropy = -(probability * probability.log()).sum(dim=0)
        if self.exclusive:
            entropy /= math.log(max(self.classes, 2))
        else:
            other = (1 - slices).clamp(1e-7, 1.0)
            entropy = (entropy - (other * other.log()).sum(dim=0)) / (self.classes * math.log(2))
        self.result[index, rows, columns] = entropy.cpu()


class NativeOutputs:
    """All that is asked for of one volume, gathered side by side from one restoration: a sink that feeds others.

    Args:
        shape: (slices, rows, columns) of the native grid in streaming order.
        classes: number of classes.
        decision: how probabilities become labels.
        probabilities: whether the probabilities are kept.
        uncertainty: whether their entropy is kept.
        wanted: the classes that are asked for.
        device: where labels are gathered.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        *,
        decision: Decision,
        probabilities: bool,
        uncertainty: bool,
        wanted: Collection[int],
        device: torch.device,
    ) -> None:
        self.classes, self.decision, self.wanted = classes, decision, wanted
        self.labels: ArgmaxSink | ThresholdSink
        if decision.threshold is None:
            self.labels = ArgmaxSink(shape, classes, device=device)
        else:
            self.labels = ThresholdSink(shape, classes, threshold=decision.threshold, device=device)
        self.entropy = EntropySink(shape, classes, exclusive=decision.exclusive) if uncertainty else None
        self.probabilities = ProbabilitySink(shape, classes) if probabilities else None
        self.sinks = [sink for sink in (self.labels, self.entropy, self.probabilities) if sink is not None]

    def take(self, index: int, rows: slice, columns: slice, classes: Sequence[int], slices: torch.Tensor) -> None:
        """See :class:`Sink`."""
        for sink in self.sinks:
            sink.take(index, rows, columns, classes, slices)

    @property
    def floor(self) -> tuple[float, Collection[int]]:
        """The probability under which a class cannot matter, and the classes without which a slice does not."""
        if len(self.sinks) > 1:
            return 0.0, self.wanted
        if self.decision.threshold is None:
            return 1.0 / self.classes if self.decision.activation == "softmax" else 0.0, set(self.wanted) - {0}
        return max(self.decision.threshold, 0.0), self.wanted

    def arrays(self, back: Sequence[int], *, flat: bool) -> NativeArrays:
        """What was gathered, with the axes in native order.

        Args:
            back: for each native axis the streaming axis that it is.
            flat: whether the third axis is one voxel that was added to a 2D image.
        """
        gathered = self.labels.result.cpu().numpy()
        labels = in_file_order(_turned(gathered, back, flat=flat))
        if gathered.ndim == 4 and len(labels) == 1:
            labels = labels[0]
        return (
            labels.view(np.uint16) if labels.dtype == np.int16 else labels,
            None if self.probabilities is None else _turned(self.probabilities.array, back, flat=flat),
            None if self.entropy is None else _turned(self.entropy.result.numpy(), back, flat=flat),
        )


def _turned(array: np.ndarray, back: Sequence[int], *, flat: bool) -> np.ndarray:
    extra = array.ndim - 3
    turned = array.transpose(*range(extra), *(extra + axis for axis in back))
    return turned[..., 0] if flat else turned


def in_file_order(array: np.ndarray) -> np.ndarray:
    """The same array with its first axis fastest in memory, as it will lie in its file."""
    turned = np.empty(array.shape, array.dtype, order="F")
    slow, rows = (int(axis) for axis in np.argsort(array.strides)[:-3:-1])

    def turn(row: int) -> None:  # piece by piece, so that source and target stay in the cache
        for start in range(0, array.shape[slow], 128):
            part = [slice(None)] * array.ndim
            part[slow], part[rows] = slice(start, start + 128), slice(row, row + 8)
            turned[tuple(part)] = array[tuple(part)]

    one_core_each(turn, range(0, array.shape[rows], 8))
    return turned


def volumes_ml(labels: np.ndarray, names: dict[int, str], voxel_ml: float, *, overlapping: bool) -> dict[str, float]:
    """Millilitres per label name, the background left out; per mask where labels overlap."""
    if overlapping:
        return {names[n]: round(float(mask.sum(dtype=np.int64)) * voxel_ml, 4) for n, mask in enumerate(labels)}
    flat = torch.from_numpy(labels.ravel(order="K").view(np.int16 if labels.itemsize == 2 else np.uint8))
    count = partial(torch.bincount, minlength=max(names, default=0) + 1)
    counts = torch.stack(one_core_each(count, torch.split(flat, _COUNTED))).sum(dim=0).tolist()
    return {name: round(float(counts[n]) * voxel_ml, 4) for n, name in names.items() if n}


def with_values_of(labels: np.ndarray, values: Sequence[int] | None, kept: Collection[int] | None = None) -> np.ndarray:
    """Class numbers replaced by the values that the classes have in label maps, uint8 or uint16.

    Args:
        labels: class numbers.
        values: of the classes; None for the numbers themselves.
        kept: the classes that are asked for, others become background; None for all.
    """
    if values is None and kept is None:
        return labels
    of_class = range(int(labels.max(initial=0)) + 1) if values is None else values
    table = np.array(of_class, np.uint8 if max(of_class) < 256 else np.uint16)
    for number in set(range(len(table))) - set(range(len(table)) if kept is None else kept):
        table[number] = 0
    return np.asarray(table[labels])


def apply_after(transform: Transform, labels: np.ndarray, volume: Volume) -> np.ndarray:
    """Run a transform of the bundle's postprocessing on the finished labels."""
    exclusive = labels.ndim == len(volume.shape)
    if exclusive and (classes := single_pieces_of(transform)):
        keep_single_pieces(labels, classes)
        return labels
    key = getattr(transform, "keys", ("pred",))[0]
    channels = labels[None] if exclusive else labels
    tensor = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(channels).astype(np.float32)), affine=torch.from_numpy(volume.affine)
    )
    result = np.asarray(transform({key: tensor})[key]).astype(labels.dtype)
    return result[0] if exclusive else result
