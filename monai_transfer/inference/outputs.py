"""What a run gathers on the native grid, and in which form it hands it over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from monai_transfer.bundle.reading import Decision
from monai_transfer.inference.restoration import Sink
from monai_transfer.inference.sinks import (
    ArgmaxSink,
    EntropySink,
    ProbabilitySink,
    Sinks,
    ThresholdSink,
)


@dataclass(frozen=True)
class Wanted:
    """What a run shall produce beside the labels."""

    probabilities: bool = False
    uncertainty: bool = False
    skip_empty: bool = True


@dataclass
class NativeArrays:
    """The results of a run on the native grid; masks and probabilities have a first axis of classes."""

    labels: np.ndarray
    probabilities: np.ndarray | None
    entropy: np.ndarray | None


class Outputs:
    """The sinks that are asked for.

    Args:
        shape: (slices, rows, columns) of the native grid in streaming order.
        classes: number of classes.
        decision: how probabilities become labels.
        wanted: what is wanted beside labels.
        device: where labels are gathered.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, *, decision: Decision, wanted: Wanted, device: torch.device
    ) -> None:
        self.classes, self.decision = classes, decision
        threshold = decision.threshold
        self.labels: ArgmaxSink | ThresholdSink
        if threshold is None:
            self.labels = ArgmaxSink(shape, classes, device=device)
        else:
            self.labels = ThresholdSink(shape, classes, threshold=threshold, device=device)
        sinks: list[Sink] = [self.labels]
        self.probabilities: ProbabilitySink | None = None
        self.entropy: EntropySink | None = None
        if wanted.uncertainty:
            self.entropy = EntropySink(shape, classes, exclusive=threshold is None)
            sinks.append(self.entropy)
        if wanted.probabilities:
            self.probabilities = ProbabilitySink(shape, classes)
            sinks.append(self.probabilities)
        self.sink: Sink = Sinks(sinks) if len(sinks) > 1 else sinks[0]

    @property
    def floor(self) -> tuple[float, int | None]:
        """The probability under which a class cannot matter, and the background class."""
        decision = self.decision
        if self.entropy is not None or self.probabilities is not None:
            return 0.0, None
        if decision.threshold is None:
            return (1.0 / self.classes, 0) if decision.activation == "softmax" else (0.0, None)
        return max(decision.threshold, 0.0), None

    def native(self, back: Sequence[int], *, flat: bool) -> NativeArrays:
        """The gathered arrays with their axes in native order."""
        labels = self.labels.result.cpu().numpy()
        masks = labels.ndim == 4

        def turn(array: np.ndarray) -> np.ndarray:
            extra = array.ndim - 3
            turned = array.transpose(*range(extra), *(extra + b for b in back))
            return turned[..., 0] if flat else turned

        labels = in_file_order(turn(labels))
        if masks and len(labels) == 1:
            labels = labels[0]
        return NativeArrays(
            labels=labels.view(np.uint16) if labels.dtype == np.int16 else labels,
            probabilities=None if self.probabilities is None else turn(self.probabilities.array),
            entropy=None if self.entropy is None else turn(self.entropy.result.numpy()),
        )


def in_file_order(array: np.ndarray) -> np.ndarray:
    """The same array with its first axis fastest in memory, as it will lie in its file."""
    turned = np.empty(array.shape, array.dtype, order="F")
    slow = int(np.argmax(array.strides))
    for start in range(0, array.shape[slow], 32):  # slab by slab, so that source and target stay in the cache
        part = (slice(None),) * slow + (slice(start, start + 32),)
        turned[part] = array[part]
    return turned
