"""The figures that describe a data set: voxel size, extent, intensities, modality, volumes of the labels."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monai_transfer.datasets.label_values import LabelMap
from monai_transfer.volumes.volume import Volume, spacing_of, to_ras

Modality = Literal["ct", "mr"]
Triple = tuple[float, float, float]

SAMPLES = 100_000
"""How many voxels of an image the percentiles are taken from."""

_FEWEST_WHOLE = 5
"""Cases from which on a label that is in one piece in all of them is taken to be so in others."""

_PRESENT = 0.9
"""Share of the labelled cases that show an organ; lesions are often absent, and a kidney may be."""

_ORGAN_RANGE = 8.0
"""Largest ratio of the 90th to the 10th percentile of the volumes of an organ: 5 for spleens of 20 adults; lesions
differ by more."""

_CT_AIR = -80.0
_CT_NAMES = ("ct", "cbct", "computed tomography")


@dataclass(frozen=True)
class Fingerprint:
    """A data set in figures; triples are in the order left-right, back-front, feet-head.

    Attributes:
        spacing: median voxel size, mm.
        shape: median number of voxels.
        extent_mm: median size of the field of view, mm.
        largest_mm: its greatest size along each axis, mm.
        intensity: ``min``, ``percentile_00_5``, ``median``, ``percentile_99_5``, ``max``, ``mean`` and ``std`` of the
            foreground of the first channel: above -500 HU in CT, above a tenth of the bright end otherwise.
        channel_intensity: the same for every channel.
        modality: ``ct`` when the first channel's name or the intensities say so, else ``mr``.
        label_values: the values that occur, with 0.
        label_volumes_ml: label value -> median volume in the cases that have it, ml.
        whole_labels: values that lie in one piece in every case that has them, in nearly all and of much the same
            volume, as organs do; none with fewer than five.
        cases: number of sound cases.
        labelled: number of them with a label.
        spacing_range: smallest and largest voxel size per axis, mm.

    Example:
        >>> import tempfile, nibabel
        >>> from pathlib import Path
        >>> from monai_transfer.datasets import check_dataset, read_dataset
        >>> scan = nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nibabel.save(scan, Path(folder) / "a.nii.gz")
        ...     fingerprint = check_dataset(read_dataset(folder)).fingerprint
        >>> fingerprint.spacing, fingerprint.shape, fingerprint.modality
        ((1.0, 1.0, 3.0), (8.0, 8.0, 8.0), 'mr')
    """

    spacing: Triple
    shape: Triple
    extent_mm: Triple
    largest_mm: Triple
    intensity: dict[str, float]
    channel_intensity: tuple[dict[str, float], ...]
    modality: Modality
    label_values: tuple[int, ...]
    label_volumes_ml: dict[int, float]
    cases: int
    labelled: int
    spacing_range: tuple[Triple, Triple]
    whole_labels: tuple[int, ...] = ()

    @property
    def whole_mm(self) -> Triple:
        """A field of view that holds the whole image of nearly every case, mm.

        It is the largest, but at most half as much again as the median: one scan of a whole body among many of a belly
        is cut, rather than that all are padded with eight times their voxels.
        """
        return _triple(np.minimum(self.largest_mm, 1.5 * np.array(self.extent_mm)))

    def scaled(self, by: float) -> "Fingerprint":
        """The same images, read as if their voxels were so many times as long."""
        spacing, extent, largest = (
            _triple(by * np.array(lengths)) for lengths in (self.spacing, self.extent_mm, self.largest_mm)
        )
        return replace(self, spacing=spacing, extent_mm=extent, largest_mm=largest)


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of one image: foreground samples and range, and what it looks like."""

    samples: NDArray[np.float32]
    minimum: float
    maximum: float
    modality: Modality


@dataclass(frozen=True)
class CaseFacts:
    """What is kept of one case once its voxels are let go."""

    spacing: Triple
    shape: Triple
    images: tuple[ImageFacts, ...]
    volumes_ml: dict[int, float] | None
    whole: frozenset[int] = frozenset()


def image_facts(channel: NDArray[Any]) -> ImageFacts:
    """The facts of one channel of an image, ``(x, y, z)``."""
    flat = channel.ravel(order="K")
    # an odd step, so that a row of an even length is not sampled in one column only
    sample = flat[:: (flat.size // SAMPLES) | 1].astype(np.float32)
    modality = guess_modality(sample)
    if modality == "ct":
        threshold = -500.0
    else:
        # 99.5 and not 100: a vessel or an artefact may be far brighter than all tissue
        low, high = (float(value) for value in np.percentile(sample, (0, 99.5)))
        threshold = low + 0.1 * (high - low)
    foreground = sample[sample > threshold]
    inside = flat[flat > threshold]
    if foreground.size == 0 or inside.size == 0:
        foreground = inside = sample
    return ImageFacts(foreground, float(inside.min()), float(inside.max()), modality)


def guess_modality(values: NDArray[np.float32]) -> Modality:
    """``ct`` when a share of the voxels is as negative as fat and air are in Hounsfield units, else ``mr``."""
    low, high = (float(value) for value in np.percentile(values, (2, 99.5)))
    # an MR that was normalised has negative values too, but none of hundreds on both sides
    return "ct" if low < _CT_AIR and high > -_CT_AIR / 4 else "mr"


def case_facts(first: Volume, images: Sequence[ImageFacts], label: LabelMap | None) -> CaseFacts:
    """The facts of a case.

    Args:
        first: its first image, which gives the grid.
        images: the facts of its channels.
        label: what is kept of its label map, where it has one.
    """
    spacing = spacing_of(first.affine)
    shape = np.array(first.shape, np.float64)
    volumes = None if label is None else {value: n * first.voxel_ml for value, n in label.counts.items()}
    whole = frozenset() if label is None else label.whole
    return CaseFacts(to_ras(first.affine, spacing), to_ras(first.affine, shape), tuple(images), volumes, whole)


def summarise(cases: Sequence[CaseFacts], channel_names: Sequence[str]) -> Fingerprint | None:
    """The fingerprint of the cases; none when there are none."""
    if not cases:
        return None
    spacings = np.array([case.spacing for case in cases])
    shapes = np.array([case.shape for case in cases])
    volumes: dict[int, list[float]] = defaultdict(list)
    for case in cases:
        for value, volume in (case.volumes_ml or {}).items():
            volumes[value].append(volume)
    channels = tuple(_intensity([case.images[channel] for case in cases]) for channel in range(len(cases[0].images)))
    return Fingerprint(
        spacing=_triple(np.median(spacings, axis=0)),
        shape=_triple(np.median(shapes, axis=0)),
        extent_mm=_triple(np.median(shapes * spacings, axis=0)),
        largest_mm=_triple((shapes * spacings).max(axis=0)),
        intensity=channels[0],
        channel_intensity=channels,
        modality=_modality([case.images[0].modality for case in cases], channel_names),
        label_values=tuple(sorted(volumes)),
        label_volumes_ml={value: float(np.median(volumes[value])) for value in sorted(volumes) if value != 0},
        cases=len(cases),
        labelled=sum(case.volumes_ml is not None for case in cases),
        spacing_range=(_triple(spacings.min(axis=0)), _triple(spacings.max(axis=0))),
        whole_labels=_whole_labels([case for case in cases if case.volumes_ml is not None], volumes),
    )


def _whole_labels(labelled: Sequence[CaseFacts], volumes: Mapping[int, Sequence[float]]) -> tuple[int, ...]:
    """The labels that lie in one piece wherever one looks, but for lesions, of which another body may have two."""
    broken = {value for case in labelled for value in (case.volumes_ml or {}) if value not in case.whole}
    whole = []
    for value in sorted(volumes.keys() - broken):
        small, large = np.percentile(volumes[value], (10, 90))
        often = len(volumes[value]) >= max(_FEWEST_WHOLE, _PRESENT * len(labelled))
        if often and large <= _ORGAN_RANGE * small:
            whole.append(value)
    return tuple(whole)


def _intensity(images: Sequence[ImageFacts]) -> dict[str, float]:
    pooled = np.concatenate([image.samples for image in images]).astype(np.float64)
    low, median, high = np.percentile(pooled, (0.5, 50, 99.5))
    return {
        "min": min(image.minimum for image in images),
        "percentile_00_5": float(low),
        "median": float(median),
        "percentile_99_5": float(high),
        "max": max(image.maximum for image in images),
        "mean": float(pooled.mean()),
        "std": float(pooled.std()),
    }


def _modality(guesses: Sequence[Modality], channel_names: Sequence[str]) -> Modality:
    name = channel_names[0].strip().lower() if channel_names else ""
    if name in _CT_NAMES:
        return "ct"
    if name.startswith(("mr", "t1", "t2", "flair", "pd", "adc", "dwi")):
        return "mr"
    return Counter(guesses).most_common(1)[0][0]


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z
