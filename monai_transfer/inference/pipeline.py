"""One preprocessed volume through the network and back to its native grid."""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose

from monai_transfer.bundle.facts import ATLAS_FILE
from monai_transfer.bundle.reading import Decision, InferenceBundle, WindowSettings
from monai_transfer.errors import UserError
from monai_transfer.inference.cores import on_all_cores
from monai_transfer.inference.correction import bytes_corrected, corrected_slices, is_corrected
from monai_transfer.inference.inverting import restore_by_inverse
from monai_transfer.inference.predictor import Predictor
from monai_transfer.inference.preprocessing import working_shape
from monai_transfer.inference.resampling import NotSeparable
from monai_transfer.inference.restoration import GridMap, Restorer, native_from_working
from monai_transfer.inference.segmentation import SegmentOptions
from monai_transfer.inference.sinks import MOST_IN_MEMORY, NativeArrays, NativeOutputs
from monai_transfer.inference.windows import Start, pad_to_plan, plan_windows, stream, wanted_windows
from monai_transfer.transforms.target import likeliest_class
from monai_transfer.volumes.volume import Volume

if TYPE_CHECKING:
    from monai_transfer.adaptation import LabelAtlas

logger = logging.getLogger(__name__)

_CHUNK = 8
"""Slices that are restored at a time."""

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all)."""


class Clock:
    """Seconds per stage."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(("read", "preprocess", "network", "restore", "write"), 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to ``stage``, but for that of stages within it."""
        begin, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            within = sum(self.seconds.values()) - before
            self.seconds[stage] += time.perf_counter() - begin - within


class CaseRun:
    """The stream of one volume.

    Args:
        working: the preprocessed image, (C, *working shape), with its trace.
        predictor: the networks.
        classes: tells the output channels of one network, given a window.
        choose_batch: sets the windows per forward pass, given a window.
        members: number of networks in the ensemble.
        settings: the sliding window.
        decision: how logits become labels.
        probabilities: whether the class probabilities are kept.
        uncertainty: whether their entropy is kept.
        wanted: which of so many classes are asked for.
        skip_empty: whether windows that hold only air are left out.
        clock: keeps the time.
        atlas: of the labels, by which the probabilities are corrected; ``None`` leaves them as the network gives them.
        progress: called as windows are done.
    """

    def __init__(
        self,
        working: MetaTensor,
        *,
        predictor: Predictor,
        classes: Callable[[torch.Tensor], int],
        choose_batch: Callable[[torch.Tensor], None],
        members: int,
        settings: WindowSettings,
        decision: Decision,
        probabilities: bool,
        uncertainty: bool,
        wanted: Callable[[int], Collection[int]],
        skip_empty: bool,
        clock: Clock,
        atlas: "LabelAtlas | None" = None,
        progress: Progress | None = None,
    ) -> None:
        self.working, self.predictor, self.members = working, predictor, members
        self.atlas = atlas
        self.decision, self.clock, self.progress = decision, clock, progress
        self.kept, self.wanted = {"probabilities": probabilities, "uncertainty": uncertainty}, wanted
        image = working.as_tensor()
        self.flat = image.ndim == 3
        self.grid = self._grid()
        shape = (*image.shape[1:], 1)[:3]
        self.plan = plan_windows(shape, settings.in_3d(), device=predictor.output_device)
        self.padding = settings.padding_mode, settings.cval
        self.image = self._padded(image)
        window = self.image[None, :, *(slice(0, r) for r in self.plan.roi)]
        predictor.prepare(window, voxels=self.plan.count * math.prod(self.plan.roi))
        choose_batch(window)
        self.classes = classes(window)
        self.test = wanted_windows(self.image, self.plan) if skip_empty else None
        self.computed = sum(self._wants(s) for layer in self.plan.layers for s in layer.windows)
        self.done, self.looks = 0, 1

    def _grid(self) -> GridMap | None:
        try:
            return native_from_working(self.working, nearest=self.decision.nearest).in_3d()
        except NotSeparable:
            return None

    def _padded(self, image: torch.Tensor) -> torch.Tensor:
        mode, value = self.padding
        return pad_to_plan(image[..., None] if self.flat else image, self.plan, mode=mode, value=value)

    def _wants(self, start: Start) -> bool:
        return self.test is None or self.test(start)

    def slabs(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Finished slices with their mean logits, (first slice, (n, members * C, rows, columns))."""
        source = stream(
            self.image,
            self.plan,
            self._logits,
            channels=self.classes * self.members,
            device=self.predictor.output_device,
            batch=lambda: self.predictor.batch,
            wanted=self.test,
            progress=self._advance,
        )
        while True:
            with self.clock("network"), torch.inference_mode():
                item = next(source, None)
            if item is None:
                return
            yield item

    def probabilities(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Finished slices with what is decided by, (first slice, (n, C, rows, columns))."""
        if self.atlas is None:
            return self._activated()
        if not is_corrected(self.atlas, self.classes, self.working.shape[1:]):
            logger.warning("Labels are not corrected by anatomy: the volume is too large, or of other axes.")
            return self._activated()
        return self._corrected(self.working.as_tensor(), self.atlas)

    def _corrected(self, image: torch.Tensor, atlas: "LabelAtlas") -> Iterator[tuple[int, torch.Tensor]]:
        def gathered() -> torch.Tensor:
            return torch.cat([values for _, values in self._activated()])

        def look(other: torch.Tensor) -> torch.Tensor:
            self.image, self.looks = self._padded(other), self.looks + 1
            return gathered()

        seen = gathered()
        with self.clock("restore"):
            slices = on_all_cores(lambda: corrected_slices(seen, image, atlas, order=self.plan.order, look=look))
        for first in range(0, len(slices), _CHUNK):
            yield first, slices[first : first + _CHUNK]

    def _activated(self) -> Iterator[tuple[int, torch.Tensor]]:
        for first, logits in self.slabs():
            with self.clock("restore"), torch.inference_mode():
                values = on_all_cores(partial(activate, logits, self.decision.activation, members=self.members))
            yield first, values

    def _logits(self, windows: torch.Tensor) -> torch.Tensor:
        logits = self.predictor(windows)
        if logits.shape[1] != self.classes * self.members:
            raise UserError(
                f"The network has {logits.shape[1] // self.members} outputs where configs/metadata.json speaks of "
                f"{self.classes}: mend its num_channels and channel_def."
            )
        return logits

    def _advance(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.looks * self.plan.count)

    def restore(self, transforms: Compose, key: str) -> NativeArrays:
        """Run everything and gather the results on the native grid."""
        grid, order = self.grid, self.plan.order
        if grid is None:
            return self._restore_long_way(transforms, key)
        shape = [len(grid.taps[grid.working_axis.index(a)]) for a in order]
        back = [order.index(a) for a in grid.working_axis]
        outputs = self._outputs(shape)
        floor, wanted = outputs.floor
        restorer = Restorer(
            grid, order=order, sink=outputs, floor=floor, wanted=wanted, device=self.predictor.output_device
        )
        for first, values in self.probabilities():
            with self.clock("restore"), torch.inference_mode():
                restorer.feed(first, values)
        with self.clock("restore"):
            return outputs.arrays(back, flat=self.flat)

    def _outputs(self, shape: Sequence[int]) -> NativeOutputs:
        device = self.predictor.output_device
        wanted = self.wanted(self.classes)
        return NativeOutputs(shape, self.classes, decision=self.decision, wanted=wanted, device=device, **self.kept)

    def _restore_long_way(self, transforms: Compose, key: str) -> NativeArrays:
        shape = self.working.meta["spatial_shape"]
        outputs = self._outputs([int(n) for n in shape])
        restore_by_inverse(
            self.probabilities(),
            self.working,
            order=self.plan.order,
            classes=self.classes,
            transforms=transforms,
            key=key,
            nearest=self.decision.nearest,
            sink=outputs,
        )
        return outputs.arrays([0, 1, 2], flat=False)


def atlas_of(bundle: InferenceBundle) -> "LabelAtlas | None":
    """The atlas by which a bundle's labels are corrected; ``None`` where it keeps none, as most do not.

    Raises:
        UserError: it is damaged, or of other labels.
    """
    path = bundle.root / "models" / ATLAS_FILE
    if not path.is_file():
        return None
    from monai_transfer.adaptation.atlas_file import read_atlas  # here: few bundles have one

    return read_atlas(path, classes=bundle.out_channels)


def bytes_beside(
    volume: Volume,
    bundles: Sequence[InferenceBundle],
    options: SegmentOptions,
    *,
    classes: int,
    atlas: "LabelAtlas | None" = None,
) -> int:
    """What a run takes beside the working image: the slab of logits, what corrects it, results on the native grid.

    Args:
        volume: what is segmented.
        bundles: the members of the ensemble.
        options: what is asked for.
        classes: of one network.
        atlas: by which probabilities are corrected.
    """
    bundle = bundles[0]
    shape, native = working_shape(volume, bundle.preprocessing), math.prod(volume.shape)
    thickness = min(max(bundle.window.roi_size), max(shape))
    slab = 4 * classes * len(bundles) * thickness * math.prod(shape) // max(shape)
    if atlas is not None:
        slab += bytes_corrected(classes, shape)
    # Once in streaming order and once as they lie in the file.
    labels = 2 * native * (1 if bundle.decision.exclusive else classes)
    probabilities = min(2 * classes * native, MOST_IN_MEMORY) if options.probabilities else 0
    return slab + labels + probabilities + (4 * native if options.uncertainty else 0)


def activate(logits: torch.Tensor, activation: str, *, members: int = 1) -> torch.Tensor:
    """Logits (n, members * C, rows, columns) -> probabilities (n, C, rows, columns), the mean over the members."""
    grouped = logits.reshape(len(logits), members, -1, *logits.shape[2:])
    if activation == "softmax":
        grouped = grouped.softmax(dim=2)
    elif activation == "sigmoid":
        grouped = grouped.sigmoid()
    return grouped[:, 0] if members == 1 else grouped.mean(dim=1)


def class_masks(logits: torch.Tensor, decision: Decision) -> torch.Tensor:
    """Where a decision draws each class: of logits (n, C, *spatial) masks of the same shape.

    Example:
        >>> class_masks(torch.tensor([[0.1, 0.4, -1.0]]), Decision())
        tensor([[False,  True, False]])
        >>> class_masks(torch.tensor([[0.1, 0.4, -1.0]]), Decision("sigmoid", threshold=0.5))
        tensor([[ True,  True, False]])
    """
    if (least := decision.threshold) is None:
        classes = torch.arange(logits.shape[1], device=logits.device)
        return likeliest_class(logits, 1)[:, None] == classes.view(-1, *[1] * (logits.ndim - 2))
    return activate(logits, decision.activation) >= least
