"""What the site of a target tells of its images: a file of numbers, which may travel where the images may not."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from monai_transfer.adaptation import refine_probabilities, without_bias
from monai_transfer.adaptation.anatomy import plausible_sizes, size_bounds
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.datasets import CaseDataset, Fingerprint, require_sound
from monai_transfer.datasets.cases import spread
from monai_transfer.errors import UserError
from monai_transfer.files import read_object, write_result
from monai_transfer.inference.preprocessing import preprocess
from monai_transfer.inference.whole_image import over_whole_image
from monai_transfer.machine import choose_device
from monai_transfer.options import Spacing, validated
from monai_transfer.text import one_line
from monai_transfer.transforms import IntensityProfile
from monai_transfer.transforms.presets import Modality
from monai_transfer.transforms.target import AROUND, likeliest_class
from monai_transfer.volumes.reading import read_volume

MOST_VOLUMES = 8
"""So many volumes are measured, as while a network trains: their intensities differ less than those of classes."""

_KIND = "target profile"
_PER_CLASS = "one row per class, of one number per channel"
Length = Annotated[float, Field(gt=0, le=10_000)]
Row = list[float]


@validated
class MeasuredVolume:
    """One volume in numbers; those of classes are of the network's labels.

    Attributes:
        low: 1 % quantile of each channel.
        high: 99.5 % quantile of each channel.
        mean: median intensity of each class and channel; ``None`` where the class was not found.
        deviation: scaled median absolute deviation, likewise.
        around: quantiles of what lies around the classes, for each channel, or ``None``.
        volumes_ml: volume of each class.
    """

    low: Row
    high: Row
    mean: list[list[float | None]]
    deviation: list[list[float | None]]
    around: list[Row] | None
    volumes_ml: Row

    def profile(self, usual_ml: torch.Tensor) -> dict[str, Any]:
        """The intensities, without those of classes of no plausible size: the network took something else for them.

        Args:
            usual_ml: usual volume of each class, ``(classes,)``; 0 where it is not known.
        """
        sound = plausible_sizes(torch.tensor(self.volumes_ml), size_bounds(usual_ml)).tolist()
        rows = zip(self.mean, self.deviation, sound, strict=True)
        means = [
            [mean if known and spread is not None else None for mean, spread in zip(row, spreads, strict=True)]
            for row, spreads, known in rows
        ]
        numbers = {name: getattr(self, name) for name in ("low", "high", "deviation", "around")}
        return {**numbers, "mean": means}

    def require_shape(self, channels: int, classes: int) -> None:
        """See that there are as many numbers as channels and classes ask for.

        Raises:
            UserError: there are not.
        """
        lengths = [len(self.low), len(self.high), *map(len, self.mean), *map(len, self.deviation)]
        if set(lengths) != {channels}:
            raise UserError(f"low, high, mean and deviation need {_PER_CLASS}")
        if {len(self.mean), len(self.deviation), len(self.volumes_ml)} != {classes}:
            raise UserError(f"mean, deviation and volumes_ml need {_PER_CLASS}")
        if self.around is not None and [len(row) for row in self.around] != [len(AROUND)] * channels:
            raise UserError(f"around needs {len(AROUND)} numbers per channel")


@validated
class TargetProfile:
    """What a training for a target needs to know of it.

    Attributes:
        modality: ``"ct"`` or ``"mr"``.
        channels: of the images.
        spacing: median voxel size, mm.
        extent_mm: median size of the field of view, mm.
        cases: how many volumes there are.
        classes: names of the network's classes, 0 being the background; empty without a network.
        volumes: those that were measured.

    Example:
        >>> profile = TargetProfile("mr", 1, (2.0, 2.0, 3.0), (300.0, 250.0, 200.0), cases=4)
        >>> profile.fingerprint.shape, profile.profiles({})
        ((150.0, 125.0, 66.6667), [])
    """

    modality: Modality
    channels: Annotated[int, Field(ge=1, le=1024)]
    spacing: tuple[Spacing, Spacing, Spacing]
    extent_mm: tuple[Length, Length, Length]
    cases: Annotated[int, Field(ge=1)]
    classes: dict[int, str] = dataclasses.field(default_factory=dict)
    volumes: list[MeasuredVolume] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        """See that every volume has as many numbers as there are channels and classes."""
        for volume in self.volumes:
            volume.require_shape(self.channels, len(self.classes))

    @classmethod
    def read(cls, path: Path) -> "TargetProfile":
        """The profile in a file of :meth:`write`.

        Raises:
            UserError: it is none, or a value is not possible.
        """
        remedy = "make it by monai-transfer profile"
        content = read_object(path, remedy=remedy)
        if content.pop("kind", None) != _KIND:
            raise UserError(f"{path} is no profile of a target: {remedy}.")
        try:
            volumes = [MeasuredVolume(**volume) for volume in content.pop("volumes", [])]
            return cls(**content, volumes=volumes)
        except (UserError, TypeError, ValueError) as error:
            raise UserError(f"{path} is a broken profile ({one_line(str(error))[:200]}): {remedy}.") from error

    def write(self, path: Path) -> None:
        """Write it as JSON.

        Raises:
            UserError: the file cannot be written.
        """
        content = {"kind": _KIND, **dataclasses.asdict(self)}
        write_result(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @property
    def fingerprint(self) -> Fingerprint:
        """As far as a plan needs it."""
        x, y, z = (round(extent / step, 4) for extent, step in zip(self.extent_mm, self.spacing, strict=True))
        return Fingerprint(
            spacing=self.spacing,
            shape=(x, y, z),
            extent_mm=self.extent_mm,
            largest_mm=self.extent_mm,
            intensity={},
            channel_intensity=(),
            modality=self.modality,
            label_values=(),
            label_volumes_ml={},
            cases=self.cases,
            labelled=0,
            spacing_range=(self.spacing, self.spacing),
        )

    def profiles(self, usual_ml: Mapping[int, float]) -> list[dict[str, Any]]:
        """The intensities of each measured volume, for the transform that paints the source.

        Args:
            usual_ml: class -> usual volume in the source.
        """
        usual = torch.tensor([usual_ml.get(number, 0.0) for number in range(len(self.classes))])
        return [volume.profile(usual) for volume in self.volumes]


def is_profile(path: Path) -> bool:
    """Whether a file says that it is a profile; a list of cases, which is JSON too, does not."""
    return path.is_file() and path.suffix == ".json" and read_object(path).get("kind") == _KIND


def measure_target(
    images: CaseDataset, bundle: str | Path | None = None, *, device: str = "auto", trust: bool = False
) -> TargetProfile:
    """Measure a target: its grid, and by a bundle's network the intensities of its classes.

    A network that was trained on painted sources finds most of an organ in images it has never seen; the volume's own
    intensities correct it (:func:`~monai_transfer.adaptation.refine_probabilities`), and all that is kept of the labels
    is one intensity per class and volume. Labels of the target, if there are any, are not read.

    Args:
        images: of the target.
        bundle: a bundle that segments them; without one no intensity is measured.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: let a bundle that was not made here run whatever code it names.

    Raises:
        UserError: for the first fault in the data, or a bundle that cannot be read or looks in boxes.
    """
    found = require_sound(images.unlabelled, labelled=False)
    grid: dict[str, Any] = {"spacing": found.spacing, "extent_mm": found.extent_mm}
    base = TargetProfile(found.modality, len(images.channel_names), **grid, cases=len(images))
    if bundle is None:
        return base
    read = read_bundle(bundle, device=choose_device(device), trust=trust)
    if read.finder is not None:
        raise UserError(
            f"{bundle} looks in boxes, and a profile is of whole images: give the bundle that finds the boxes, "
            f"{read.finder.root}."
        )
    if read.in_channels not in (None, base.channels):
        raise UserError(f"{bundle} takes {read.in_channels} channel(s), {images.root} has {base.channels}.")
    names = dict(enumerate(read.label_names[number] for number in sorted(read.label_names)))
    volumes = [_measured(read, case.images, images) for case in spread(images.cases, MOST_VOLUMES)]
    return dataclasses.replace(base, classes=names, volumes=volumes)


def _measured(bundle: InferenceBundle, files: Sequence[Path], images: CaseDataset) -> MeasuredVolume:
    device = next(bundle.network.parameters()).device
    image = preprocess(read_volume(files, reading=images.reading), bundle.preprocessing, key=bundle.image_key)
    voxel_ml = math.prod(float(step) for step in image.pixdim) / 1000
    plain = image.as_tensor().float().to(device)
    predicted = over_whole_image(bundle.network, bundle.window)(plain[None])[0].float().softmax(0)
    plain = without_bias(plain, predicted)
    corrected = refine_probabilities(plain, predicted)
    counts = torch.bincount(likeliest_class(corrected).flatten().cpu(), minlength=len(corrected))
    volumes = [round(float(count) * voxel_ml, 2) for count in counts]
    return MeasuredVolume(**IntensityProfile.measure(plain, corrected).numbers, volumes_ml=volumes)
