"""What a data set asks for: working grid, window, network and length of training, from its fingerprint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from monai_transfer.bundle.networks import LIGHT
from monai_transfer.datasets import Fingerprint
from monai_transfer.errors import UserError
from monai_transfer.transforms.presets import Modality

_VOXELS_ON_CPU = 300_000
_VOXELS_ON_GPU = 6_000_000
_WINDOW_ON_CPU = 96
_WINDOW_ON_GPU = 160
_EPOCH = 25


@dataclass(frozen=True)
class Plan:
    """The choices of one training, each of which an option of the command line can set.

    Attributes:
        source_modality: ``"ct"`` or ``"mr"``.
        target_modality: the same for the other domain; equal to the source's in supervised training.
        further_modalities: the same for every further source.
        label_names: value -> name, 0 being the background; without gaps.
        spacing: working grid in mm, right-anterior-superior order.
        roi_size: sliding window and random crop, voxels.
        window: HU that become -1 and 1; CT only.
        network: a name of :data:`monai_transfer.bundle.networks.NETWORKS`.
        steps: optimizer steps.
        learning_rate: peak learning rate.
        batch_size: cases per domain and step.
        seed: seed of every random generator.
        device: where to train.
    """

    source_modality: Modality
    target_modality: Modality
    label_names: dict[int, str]
    spacing: tuple[float, ...]
    roi_size: tuple[int, ...]
    device: torch.device
    window: tuple[float, float] = (-160.0, 240.0)
    network: str = "unet"
    steps: int = 1000
    learning_rate: float = 4e-3
    batch_size: int = 2
    seed: int = 0
    further_modalities: tuple[Modality, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes with the background."""
        return len(self.label_names)

    @property
    def epochs(self) -> tuple[int, int]:
        """Number of epochs and steps in each, at most 25."""
        count = max(1, round(self.steps / _EPOCH))
        return count, max(1, round(self.steps / count))

    def with_options(self, **options: Any) -> Self:
        """The plan with those options that are not ``None``.

        Raises:
            UserError: when a value is out of range.
        """
        plan = replace(self, **{name: value for name, value in options.items() if value is not None})
        if plan.steps < 1:
            raise UserError(f"--steps {plan.steps} is not possible; give at least 1.")
        if plan.window[0] >= plan.window[1]:
            raise UserError(f"--window {plan.window} is not possible; the first HU value has to be the lower one.")
        return plan


def make_plan(
    source: Fingerprint,
    target: Fingerprint | None,
    *,
    label_names: dict[int, str],
    device: torch.device,
    further: Sequence[Fingerprint] = (),
    spacing: Sequence[float] | None = None,
    **options: Any,
) -> Plan:
    """Plan a training for the largest field of view of the domains.

    The working grid is isotropic, as fine as the data and the device allow: about 300 000 voxels per volume on a CPU
    and 6 million on a GPU. Windows of at most 96 (160) voxels per axis then cover the volume.

    Args:
        source: fingerprint of the labelled domain.
        target: fingerprint of the domain to adapt to, if there is one.
        label_names: value -> name without gaps, 0 being the background.
        device: where to train.
        further: fingerprints of further labelled domains.
        spacing: working grid in mm, in place of the planned one.
        options: fields of :class:`Plan` to set; ``None`` leaves the planned value.

    Raises:
        UserError: when an option is out of range.
    """
    if spacing is not None and (len(spacing) != 3 or min(spacing) <= 0):
        raise UserError(f"--spacing {list(spacing)} is not possible; give one positive number of mm per axis.")
    prints = [source, *further] if target is None else [source, target, *further]
    extent = [max(print_.extent_mm[axis] for print_ in prints) for axis in range(3)]
    on_cpu = device.type == "cpu"
    chosen = tuple(spacing) if spacing is not None else _spacing(prints, extent, on_cpu=on_cpu)
    most = _WINDOW_ON_CPU if on_cpu else _WINDOW_ON_GPU
    light = options.get("network") in (None, *LIGHT)
    of, least = (16, 32) if light else (32, 64)  # the coarsest level must leave normalisation more than one voxel
    roi = tuple(
        min(most, max(least, _multiple(length / step, of))) for length, step in zip(extent, chosen, strict=True)
    )
    plan = Plan(
        source_modality=source.modality,
        target_modality=(target or source).modality,
        label_names=label_names,
        spacing=chosen,
        roi_size=roi,
        device=device,
        steps=1000 if on_cpu else 5000,
        further_modalities=tuple(print_.modality for print_ in further),
    )
    return plan.with_options(**options)


def contiguous_labels(names: dict[int, str]) -> dict[int, str]:
    """Label names without gaps: a network has one output for every value up to the greatest."""
    return {value: names.get(value, f"label_{value}") for value in range(max(names) + 1)}


def require_one_meaning(
    known: Mapping[int, str], data: Mapping[int, str], *, known_in: str | Path, data_in: str | Path = "the data"
) -> None:
    """See that no label value has two names; ``label_3`` is no name.

    Raises:
        UserError: one has.
    """
    for value, name in sorted(data.items()):
        if name not in (f"label_{value}", known.get(value, name)):
            raise UserError(
                f"Label {value} is {name!r} in {data_in} and {known[value]!r} in {known_in}: renumber the data's "
                "labels so that one value means one thing."
            )


def _spacing(prints: Sequence[Fingerprint], extent: Sequence[float], *, on_cpu: bool) -> tuple[float, ...]:
    voxels = _VOXELS_ON_CPU if on_cpu else _VOXELS_ON_GPU
    affordable = (math.prod(extent) / voxels) ** (1 / 3)
    finest = min(min(print_.spacing) for print_ in prints)
    step = math.ceil(max(affordable, finest) * 20) / 20
    return (step, step, step)


def _multiple(size: float, of: int) -> int:
    """``size`` voxels rounded up to a multiple of ``of``, unless it exceeds one by less than a voxel and a half."""
    return max(of, math.ceil((size - 1.5) / of) * of)
