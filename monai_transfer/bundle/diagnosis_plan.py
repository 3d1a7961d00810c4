"""What a set of examinations asks for: working grid, network and length of training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, WithJsonSchema

from monai_transfer.bundle.diagnosis_networks import LIGHT_DIAGNOSIS, require_diagnosis_network
from monai_transfer.bundle.plan import split_into_epochs
from monai_transfer.datasets import ExamReport
from monai_transfer.errors import UserError
from monai_transfer.machine import choose_device, require_memory
from monai_transfer.options import (
    BatchSize,
    Hounsfield,
    LearningRate,
    Seed,
    Spacing,
    Steps,
    checked,
    given_of,
    validated,
)

ImageKind = Literal["ct", "mr", "picture"]

PictureSize = Annotated[int, Field(title="--size", ge=32, le=4096)]
Focal = Annotated[float, Field(title="--focal", ge=0, le=10)]
Smoothing = Annotated[float, Field(title="--label-smoothing", ge=0, lt=1)]
Mixup = Annotated[float, Field(title="--mixup", ge=0, le=10)]
Sensitivity = Annotated[float, Field(title="--sensitivity", gt=0, le=1)]

_PIXELS_ON_CPU, _PIXELS_ON_GPU = 96, 224
"""Longest side of a picture; 224 is what ImageNet's networks saw, 96 takes a fifth of the time."""

_PICTURE_STEPS, _PICTURE_BATCH = 1000, 16
"""From scratch a network needs some ten thousand views of pictures before it finds what is small in them: measured on
radiographs of phantoms, the AUC rose from 0.65 to 0.82 between 2400 and 9600 views."""

_VOXELS_ON_CPU, _VOXELS_ON_GPU = 120_000, 3_000_000
"""Voxels of a whole volume, which a network that names a class sees at once, several of them in a step."""

_BYTES_PER_VOXEL = 4 * 64
"""Of a step at the least: the first feature maps have half the grid's length and 64 channels, twice."""


@validated
class DiagnosisOptions:
    """The options of a training for diagnosis that can be checked before its data are read; ``None`` leaves the plan's.

    Attributes:
        spacing: working grid of volumes in mm, one number per axis.
        window: HU that become -1 and 1, the lower first; CT only.
        size: longest side of pictures in pixels.
        network: a name of :data:`monai_transfer.bundle.diagnosis_networks.DIAGNOSIS_NETWORKS`.
        steps: optimizer steps.
        learning_rate: peak learning rate.
        batch_size: examinations per step.
        focal: focus of the loss on examinations that are wrong; 0 is cross entropy.
        label_smoothing: share of the truth that is spread over all classes.
        mixup: how evenly the images of a step are mixed; 0 is not at all.
        class_weights: whether rare classes count more in the loss.
        seed: seed of every random generator, and of the split.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Example:
        >>> DiagnosisOptions(size=128, device="cpu").given
        {'size': 128, 'device': 'cpu'}
    """

    spacing: tuple[Spacing, Spacing, Spacing] | None = None
    window: tuple[Hounsfield, Hounsfield] | None = None
    size: PictureSize | None = None
    network: str | None = None
    steps: Steps | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    focal: Focal | None = None
    label_smoothing: Smoothing | None = None
    mixup: Mixup | None = None
    class_weights: Literal["balanced", "none"] | None = None
    seed: Seed | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse an unknown network or device."""
        if self.network is not None:
            require_diagnosis_network(self.network)
        choose_device(self.device)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are set."""
        return given_of(asdict(self))


@validated
class DiagnosisPlan:
    """The choices of one training for diagnosis.

    Attributes:
        class_names: names of the outputs.
        exclusive: whether the classes exclude each other.
        kind: ``picture``, ``ct`` or ``mr``.
        shape: pixels or voxels that the network sees.
        spacing: working grid in mm; empty for pictures.
        channels: input channels.
        device: where to train.
        window: HU that become -1 and 1; CT only.
        network: a name of :data:`~monai_transfer.bundle.diagnosis_networks.DIAGNOSIS_NETWORKS`.
        steps: optimizer steps.
        learning_rate: peak learning rate.
        batch_size: examinations per step.
        focal: focus of the loss on examinations that are wrong.
        label_smoothing: share of the truth that is spread over all classes.
        mixup: how evenly the images of a step are mixed; 0 is not at all.
        class_weights: whether rare classes count more in the loss.
        seed: seed of every random generator.
    """

    class_names: tuple[str, ...]
    exclusive: bool
    kind: ImageKind
    shape: tuple[int, ...]
    spacing: tuple[Spacing, ...]
    channels: int
    device: Annotated[torch.device, WithJsonSchema({"type": "string"})]
    window: tuple[Hounsfield, Hounsfield] = (-160.0, 240.0)
    network: str = LIGHT_DIAGNOSIS
    steps: Steps = 400
    learning_rate: LearningRate = 4e-3
    batch_size: BatchSize = 8
    focal: Focal = 0.0
    label_smoothing: Smoothing = 0.0
    mixup: Mixup = 0.0
    class_weights: Literal["balanced", "none"] = "balanced"
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse an unknown network, a window upside down, a single class, and a step that cannot fit into memory."""
        require_diagnosis_network(self.network)
        if self.window[0] >= self.window[1]:
            raise UserError(f"--window {self.window} is not possible: the first HU value has to be the lower one.")
        if len(self.class_names) < (2 if self.exclusive else 1):
            raise UserError("The data show a single class: add examinations of another one.")
        require_memory(
            self.batch_size * math.prod(self.shape) * _BYTES_PER_VOXEL,
            f"--batch-size {self.batch_size} with images of {' × '.join(map(str, self.shape))}",
            "lower --batch-size or --size, or raise --spacing",
            device=self.device,
        )

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def epochs(self) -> tuple[int, int]:
        """Number of epochs and steps in each, at most 25."""
        return split_into_epochs(self.steps)

    def with_options(self, **options: Any) -> Self:
        """The plan with those options that are not ``None``.

        Raises:
            UserError: when a value is out of range.
        """
        return replace(self, **given_of(options))


def make_diagnosis_plan(
    report: ExamReport,
    *,
    class_names: Sequence[str],
    exclusive: bool,
    device: torch.device,
    size: int | None = None,
    spacing: Sequence[float] | None = None,
    inherited: Mapping[str, Any] | None = None,
    **options: Any,
) -> DiagnosisPlan:
    """Plan a training: the whole image at once, as fine as the data and the device allow.

    Args:
        report: what the images are.
        class_names: names of the outputs.
        exclusive: whether the classes exclude each other.
        device: where to train.
        size: longest side of pictures, in place of the planned one.
        spacing: working grid of volumes in mm, in place of the planned one.
        inherited: ``shape``, ``spacing`` and ``window`` of a bundle that is trained on, which its weights are used to.
        options: fields of :class:`DiagnosisPlan` to set; ``None`` leaves the planned value.

    Raises:
        UserError: when an option is out of range, or does not suit the images.
    """
    common = {"class_names": tuple(class_names), "exclusive": exclusive, "channels": report.channels, "device": device}
    on_cpu = device.type == "cpu"
    given = {**(inherited or {}), **given_of(options)}
    if report.spatial_dims == 2:
        if spacing is not None:
            raise UserError("--spacing is for volumes; these are pictures, whose longest side --size sets.")
        longest = checked(PictureSize, size) if size is not None else _PIXELS_ON_CPU if on_cpu else _PIXELS_ON_GPU
        shape = tuple(max(32, _multiple(longest * length / max(report.size))) for length in report.size)
        planned: dict[str, Any] = {"shape": shape, "spacing": (), "steps": _PICTURE_STEPS, "batch_size": _PICTURE_BATCH}
        return DiagnosisPlan(kind="picture", **{**planned, **common, **given})
    if size is not None:
        raise UserError("--size is for pictures; these are volumes, whose working grid --spacing sets.")
    print_ = report.fingerprint
    if print_ is None:
        raise UserError("There is no sound volume to plan the working grid from: run monai-transfer check.")
    step = tuple(spacing) if spacing is not None else _spacing(print_.whole_mm, min(print_.spacing), on_cpu=on_cpu)
    shape = tuple(max(32, _multiple(length / mm)) for length, mm in zip(print_.whole_mm, step, strict=True))
    planned = {"shape": shape, "spacing": step, "steps": 400 if on_cpu else 2000, "batch_size": 4}
    return DiagnosisPlan(kind=print_.modality, **{**planned, **common, **given})


def _spacing(extent: Sequence[float], finest: float, *, on_cpu: bool) -> tuple[float, float, float]:
    voxels = _VOXELS_ON_CPU if on_cpu else _VOXELS_ON_GPU
    step = math.ceil(max((math.prod(extent) / voxels) ** (1 / 3), finest) * 20) / 20
    return step, step, step


def _multiple(length: float, of: int = 16) -> int:
    return max(of, math.ceil((length - 1.5) / of) * of)
