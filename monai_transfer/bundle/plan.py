"""What a data set asks for: working grid, window, network and length of training, from its fingerprint."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from monai.transforms import Compose
from pydantic import WithJsonSchema

from monai_transfer.bundle.networks import LIGHT_UNETS, require_network
from monai_transfer.datasets import Fingerprint
from monai_transfer.errors import UserError
from monai_transfer.machine import require_memory, require_precision, usual_precision
from monai_transfer.options import (
    BatchSize,
    BodyScale,
    ChannelDropout,
    Hounsfield,
    LearningRate,
    Precision,
    Seed,
    Spacing,
    Steps,
    WindowVoxels,
    checked,
    given_of,
    require_order,
    validated,
)
from monai_transfer.transforms.presets import Modality, preset
from monai_transfer.volumes.volume import Reading

if TYPE_CHECKING:
    from monai_transfer.bundle.pacing import Pace

_VOXELS_ON_CPU = 300_000
_VOXELS_ON_GPU = 6_000_000
_WINDOW_ON_CPU = 96
_WINDOW_ON_GPU = 160
_FLATTEST = 2.0  # voxels are at most so many times as long as wide: flatter ones lose what is small
_EPOCH = 25
_MOST_CLASSES = 256  # labels are kept as 8-bit numbers while they are augmented
_FLOAT = 4
# what a step needs at the very least in float32: logits, their softmax, the one-hot label and the logits' gradient
_COPIES_OF_LOGITS = 4
# a case on the working grid: the image and its label, and each once more while it is resampled
_COPIES_OF_CASE = 4


@validated
class Plan:
    """The choices of one training, each of which an option of the command line can set.

    Attributes:
        source_modality: ``"ct"`` or ``"mr"``.
        target_modality: the same for the other domain; equal to the source's in supervised training.
        further_modalities: the same for every further source.
        label_names: value in label maps -> name, 0 being the background; values may have gaps.
        spacing: working grid in mm, right-anterior-superior order.
        roi_size: sliding window and random crop, voxels.
        window: HU that become -1 and 1; CT only.
        network: a name of :data:`monai_transfer.bundle.networks.NETWORKS`.
        steps: optimizer steps.
        learning_rate: peak learning rate.
        batch_size: cases per domain and step.
        seed: seed of every random generator.
        device: where to train.
        precision: of the network's passes in training; the weights are kept in float32 whatever it is.
        channel_dropout: share of the training images of several channels that lose some of them.
        weights: SPEC of what every arm of an adaptation starts from; empty for fresh weights.
        single_pieces: values of labels of which the bundle keeps the largest connected piece alone.
        body_scale: how many times as large the target's bodies are as the source's, which are read in that size.
    """

    source_modality: Modality
    target_modality: Modality
    label_names: dict[int, str]
    spacing: tuple[Spacing, ...]
    roi_size: tuple[WindowVoxels, ...]
    device: Annotated[torch.device, WithJsonSchema({"type": "string"})]
    window: tuple[Hounsfield, Hounsfield] = (-160.0, 240.0)
    network: str = "unet"
    steps: Steps = 1000
    learning_rate: LearningRate = 4e-3
    batch_size: BatchSize = 2
    seed: Seed = 0
    precision: Precision = "float32"
    further_modalities: tuple[Modality, ...] = ()
    channel_dropout: ChannelDropout = 0.25
    weights: str = ""
    single_pieces: tuple[int, ...] = ()
    body_scale: BodyScale = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown network, a window upside down, and a step that cannot fit into memory."""
        require_network(self.network)
        require_order(self.window)
        require_precision(self.precision, self.device.type)
        if self.classes > _MOST_CLASSES:
            raise UserError(
                f"The data have {self.classes} label values: a training takes at most {_MOST_CLASSES}, so merge labels."
            )
        logits = self.batch_size * math.prod(self.roi_size) * self.classes
        require_memory(
            logits * _FLOAT * _COPIES_OF_LOGITS,
            f"--batch-size {self.batch_size} with {self.classes} classes and windows of {math.prod(self.roi_size)} "
            "voxels",
            "lower --batch-size or raise --spacing",
            device=self.device,
        )

    @property
    def classes(self) -> int:
        """Number of classes with the background."""
        return len(self.label_names)

    @property
    def class_names(self) -> dict[int, str]:
        """Number of an output of the network -> its label's name."""
        return {number: self.label_names[value] for number, value in enumerate(sorted(self.label_names))}

    @property
    def label_values(self) -> list[int] | None:
        """The value of each output in label maps; ``None`` where the outputs' numbers are the values."""
        values = sorted(self.label_names)
        return None if values == list(range(len(values))) else values

    @property
    def source_spacing(self) -> tuple[float, ...]:
        """The grid on which source bodies have as many voxels as bodies of the target on the working grid."""
        return tuple(step / self.body_scale for step in self.spacing)

    @property
    def epochs(self) -> tuple[int, int]:
        """Number of epochs and steps in each, at most 25."""
        return split_into_epochs(self.steps)

    def validation_preset(self, reading: Reading) -> Compose:
        """The transforms by which labelled cases of the source are read to be compared with a prediction.

        Args:
            reading: how strictly the files are read.
        """
        return preset(
            self.source_modality,
            "validate",
            spacing=self.source_spacing,
            window=self.window,
            label_values=self.label_values,
            reading=reading,
        )

    def with_options(self, **options: Any) -> Self:
        """The plan with those options that are not ``None``.

        Raises:
            UserError: when a value is out of range.
        """
        return replace(self, **given_of(options))


def split_into_epochs(steps: int, length: int = _EPOCH) -> tuple[int, int]:
    """Number of epochs of about ``length`` steps, and steps in each, which make up ``steps`` as nearly as they can."""
    count = max(1, round(steps / length))
    return count, max(1, round(steps / count))


def make_plan(
    source: Fingerprint,
    target: Fingerprint | None,
    *,
    label_names: dict[int, str],
    device: torch.device,
    further: Sequence[Fingerprint] = (),
    spacing: Sequence[float] | None = None,
    detail: float = 1.0,
    pace: "Pace | None" = None,
    **options: Any,
) -> Plan:
    """Plan a training for the largest field of view of the domains.

    The working grid is as fine as the data and the device allow: about 300 000 voxels per volume on a CPU and 6 million
    on a GPU, cubes but where the slices of what will be segmented are thicker than these. Windows of at most 96 (160)
    voxels per axis then cover the volume, or as much of it as every domain shows.

    Args:
        source: fingerprint of the labelled domain.
        target: fingerprint of the domain to adapt to, if there is one.
        label_names: value in label maps -> name, 0 being the background.
        device: where to train.
        further: fingerprints of further labelled domains.
        spacing: working grid in mm, in place of the planned one.
        detail: so many times the usual voxels per volume has the planned grid.
        pace: the time that the trainings may take, which then decides detail and steps.
        options: fields of :class:`Plan` to set; ``None`` leaves the planned value.

    Raises:
        UserError: when an option is out of range.
    """
    if pace is not None:
        fixed: dict[str, Any] = {"label_names": label_names, "device": device, "further": further, "spacing": spacing}
        make = partial(make_plan, source, target, **fixed, **options)
        return pace.plan(make, channels=len(source.channel_intensity))
    if spacing is not None:
        spacing = checked(tuple[Spacing, Spacing, Spacing], tuple(spacing))
    larger = options.get("body_scale") or 1.0
    prints = [each.scaled(larger) for each in (source, *further)] + ([] if target is None else [target])
    extent = [max(print_.extent_mm[axis] for print_ in prints) for axis in range(3)]
    on_cpu = device.type == "cpu"
    voxels = detail * (_VOXELS_ON_CPU if on_cpu else _VOXELS_ON_GPU)
    chosen = tuple(spacing) if spacing is not None else _spacing(prints, (target or source).spacing, extent, voxels)
    _require_room(extent, chosen)
    light = options.get("network") in (None, *LIGHT_UNETS)
    plan = Plan(
        source_modality=source.modality,
        target_modality=(target or source).modality,
        label_names=label_names,
        spacing=chosen,
        roi_size=_windows(prints, extent, chosen, light=light, on_cpu=on_cpu),
        device=device,
        steps=1000 if on_cpu else 5000,
        precision=usual_precision(device),
        further_modalities=tuple(print_.modality for print_ in further),
        single_pieces=_whole_everywhere([source, *further]),
    )
    return plan.with_options(**options)


def _whole_everywhere(prints: Sequence[Fingerprint]) -> tuple[int, ...]:
    """The labels that lie in one piece in every domain that has them."""
    values = {value for print_ in prints for value in print_.whole_labels}
    return tuple(
        value for value in sorted(values) if all(value in p.whole_labels for p in prints if value in p.label_values)
    )


def _require_room(extent: Sequence[float], spacing: Sequence[float]) -> None:
    """See that the largest case fits into memory once it is on the working grid."""
    voxels = math.prod(length / step for length, step in zip(extent, spacing, strict=True))
    size = " × ".join(f"{length:.0f}" for length in extent)
    require_memory(
        voxels * _FLOAT * _COPIES_OF_CASE,
        f"--spacing {' × '.join(f'{step:g}' for step in spacing)} for a field of {size} mm",
        "give a coarser --spacing",
    )


def _spacing(
    prints: Sequence[Fingerprint], slices: Sequence[float], extent: Sequence[float], voxels: float
) -> tuple[float, ...]:
    """A grid of cubes, or of voxels as long as the ``slices`` of what will be segmented are thick, and finer across.

    What lies between two slices was never seen, and voxels that are not spent on it are worth more within the slices.
    """
    finest = min(min(print_.spacing) for print_ in prints)
    cube = max((math.prod(extent) / voxels) ** (1 / 3), finest)
    thick = max(range(3), key=lambda axis: slices[axis])
    # as many voxels as of cubes
    across = max((cube**3 / slices[thick]) ** 0.5, cube / _FLATTEST ** (1 / 3), finest)
    steps = [across] * 3 if slices[thick] > cube else [cube] * 3
    steps[thick] = max(cube, min(slices[thick], _FLATTEST * across))
    return tuple(math.ceil(step * 20) / 20 for step in steps)


def _windows(
    prints: Sequence[Fingerprint], extent: Sequence[float], spacing: Sequence[float], *, light: bool, on_cpu: bool
) -> tuple[int, ...]:
    """Windows in voxels along each axis, for a light network or a deep one."""
    most = _WINDOW_ON_CPU if on_cpu else _WINDOW_ON_GPU
    of, least = (16, 32) if light else (32, 64)  # the coarsest level must leave normalisation more than one voxel
    smallest = [min(print_.extent_mm[axis] for print_ in prints) for axis in range(3)]
    lengths = zip(extent, smallest, spacing, strict=True)
    return tuple(min(most, max(least, _window(long / step, short / step, of))) for long, short, step in lengths)


def _window(largest: float, smallest: float, of: int) -> int:
    """Window along one axis, in voxels, for fields of view that differ between the domains.

    It covers the largest, unless the smallest would have to be padded by more than ``of`` voxels: padding that one
    domain has and the other has not is a difference between the domains of our own making.
    """
    covering = _multiple(largest, of)
    return covering if smallest > covering - of else max(of, int(smallest) // of * of)


def _multiple(size: float, of: int) -> int:
    """``size`` voxels rounded up to a multiple of ``of``, unless it exceeds one by less than a voxel and a half."""
    return max(of, math.ceil((size - 1.5) / of) * of)
