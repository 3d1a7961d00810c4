"""What can be seen of a label without knowing the truth: the raw quantities that a prediction of Dice starts from."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean, median, pstdev
from typing import Any, Self

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from monai_transfer.adaptation import refine_probabilities
from monai_transfer.evaluation.selection import GAIN, NOISE, Predictor, SourceSizes
from monai_transfer.losses import class_dice
from monai_transfer.transforms.target import likeliest_class

SHIFT = 3
"""Voxels of the shift: odd, so that no pooling of the network moves along with it, and few, so that little is lost."""

AGREEMENTS = ("noise", "shift", "mirror", "correction")
"""Label maps of one image that are compared with its own, see :class:`LabelEvidence`."""

_MOST_FACTORS = 6.0  # a label that is not found at all counts as 64 times too small


@dataclass(frozen=True)
class LabelEvidence:
    r"""One label in a few unlabelled images, as means over the images that show it.

    Attributes:
        found: share of the images in which the network finds the label.
        noise: Dice of the label map of an image and of the same with noise and another gain.
        shift: the same of an image without its first three voxels along every axis, where both show it: pooling,
            windows and the distance from the border all move.
        mirror: the same of an image mirrored left to right, mirrored back; what has a side disagrees by right.
        correction: Dice of the label map before and after the correction by the image's own intensities
            (:func:`~monai_transfer.adaptation.refine_probabilities`).
        confidence: mean probability of the label over the voxels that get it.
        expected: Dice that the probabilities themselves promise, :math:`2 \sum_{v \in K} p_v / (\sum_v p_v + |K|)` with
            :math:`K` the voxels that get the label: what is spread over others counts against it.
        piece: share of the label's voxels that lie in its largest connected piece.
        size: median volume against the source's, in factors of two; -6 where nothing is found.
        spread: standard deviation between images of the volume, in factors of two.
        painted: Dice on labelled source images whose labels were painted with the intensities that the network finds in
            the target.

    A quantity that cannot be measured is ``None``: the agreements of a label that is never found, the spread of a
    single image, the size of a label that the source lacks.
    """

    found: float
    noise: float | None = None
    shift: float | None = None
    mirror: float | None = None
    correction: float | None = None
    confidence: float | None = None
    piece: float | None = None
    size: float | None = None
    spread: float | None = None
    painted: float | None = None
    expected: float | None = None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave; quantities that it does not know are left out."""
        known: dict[str, Any] = {field.name: content[field.name] for field in fields(cls) if field.name in content}
        return cls(**known)

    def as_dict(self) -> dict[str, float | None]:
        """Quantity -> value."""
        return asdict(self)


@torch.no_grad()
def gather_evidence(
    predict: Predictor,
    images: Iterable[Tensor],
    *,
    voxel_ml: float,
    sizes: SourceSizes,
    painted: Sequence[tuple[Tensor, Tensor]] = (),
    agreements: Collection[str] = AGREEMENTS,
    seed: int = 0,
) -> dict[int, LabelEvidence]:
    """Look at every label that a network gives to images without labels.

    Args:
        predict: the network.
        images: preprocessed target images ``(1, channels, *spatial)``.
        voxel_ml: volume of a voxel of the working grid.
        sizes: volumes of the source's labels.
        painted: source images ``(1, channels, *spatial)`` in the target's appearance, and their labels
            ``(1, *spatial)``.
        agreements: which of :data:`AGREEMENTS` to measure; all but ``correction`` take a prediction of every image.
        seed: of the noise.

    Returns:
        Class -> evidence, without the background.

    Raises:
        ValueError: there is no image.

    Example:
        >>> sizes = SourceSizes(foreground_ml=(1.0, 2.0), label_ml={1: 0.1})
        >>> bright = lambda image: torch.cat([0.5 - image, image - 0.5], 1)
        >>> image = torch.zeros(1, 1, 12, 12, 12)
        >>> image[..., 4:8, 4:8, 4:8] = 1.0
        >>> evidence = gather_evidence(bright, [image], voxel_ml=0.01, sizes=sizes)[1]
        >>> evidence.found, evidence.shift, evidence.piece
        (1.0, 1.0, 1.0)
    """
    generator = torch.Generator().manual_seed(seed)
    seen = [_seen(predict, image, agreements, generator) for image in images]
    if not seen:
        raise ValueError("there are no images to look at")
    on_painted = [
        class_dice(likeliest_class(predict(image), 1), label, classes=len(seen[0])) for image, label in painted
    ]
    return {
        number: _over_images(
            [one[number] for one in seen],
            expected_ml=sizes.label_ml.get(number),
            voxel_ml=voxel_ml,
            painted=[float(dice[number]) for dice in on_painted if math.isfinite(float(dice[number]))],
        )
        for number in range(1, len(seen[0]))
    }


@dataclass(frozen=True)
class _Sight:
    """One label in one image."""

    voxels: int
    agreements: dict[str, float]
    confidence: float
    expected: float
    piece: float


def _seen(predict: Predictor, image: Tensor, agreements: Collection[str], generator: torch.Generator) -> list[_Sight]:
    """What is seen of every class, the background included, in one image."""
    probabilities = predict(image).float().softmax(1)[0]
    confidence, label = probabilities.max(0)
    classes = len(probabilities)
    compare: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "noise": lambda: _noisy(predict, image, label, generator),
        "shift": lambda: _shifted(predict, image, label),
        "mirror": lambda: (label, likeliest_class(predict(image.flip(2)), 1)[0].flip(0)),
        "correction": lambda: (label, likeliest_class(refine_probabilities(image[0], probabilities))),
    }
    dice = {name: class_dice(*compare[name](), classes=classes) for name in agreements}
    counts = torch.bincount(label.flatten(), minlength=classes)
    surest = torch.bincount(label.flatten(), weights=confidence.flatten().double(), minlength=classes)
    masses = probabilities.flatten(1).double().sum(1)
    whole = label.cpu().numpy()
    return [
        _Sight(
            voxels=int(counts[number]),
            agreements={name: float(values[number]) for name, values in dice.items()},
            confidence=float(surest[number] / counts[number].clamp(min=1)),
            expected=float(2 * surest[number] / (masses[number] + counts[number]).clamp(min=1e-9)),
            piece=_largest_piece(whole == number) if number else 1.0,
        )
        for number in range(classes)
    ]


def _noisy(predict: Predictor, image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = torch.randn(image.shape, generator=generator).to(image)
    return label, likeliest_class(predict(GAIN * image + NOISE * image.std() * noise), 1)[0]


def _shifted(predict: Predictor, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    step = min(SHIFT, *(length // 4 for length in label.shape))
    rest, moved = label, image
    for axis in range(label.ndim):
        rest = rest.narrow(axis, step, rest.shape[axis] - step)
        moved = moved.narrow(axis + 2, step, moved.shape[axis + 2] - step)
    return rest, likeliest_class(predict(moved), 1)[0]


def _largest_piece(mask: "np.ndarray[Any, np.dtype[np.bool_]]") -> float:
    """Share of a mask in its largest connected piece; 0 for an empty one."""
    pieces, count = ndimage.label(mask)
    return float(np.bincount(pieces.ravel())[1:].max() / mask.sum()) if count else 0.0


def _over_images(
    sights: Sequence[_Sight], *, expected_ml: float | None, voxel_ml: float, painted: Sequence[float]
) -> LabelEvidence:
    volumes = [sight.voxels * voxel_ml for sight in sights]
    known = [sight for sight in sights if sight.voxels]
    logs = [math.log2(volume) for volume in volumes if volume > 0]
    return LabelEvidence(
        found=len(known) / len(sights),
        **{
            # undefined where neither map has the label
            name: fmean(values) if (values := [v for s in sights if math.isfinite(v := s.agreements[name])]) else None
            for name in sights[0].agreements
        },
        confidence=fmean(sight.confidence for sight in known) if known else None,
        expected=fmean(sight.expected for sight in known) if known else None,
        piece=fmean(sight.piece for sight in known) if known else None,
        size=_factors(median(volumes), expected_ml) if expected_ml else None,
        spread=pstdev(logs) if len(logs) > 1 else None,
        painted=fmean(painted) if painted else None,
    )


def _factors(found_ml: float, expected_ml: float) -> float:
    """How many factors of two a volume is above the expected one."""
    if found_ml <= 0:
        return -_MOST_FACTORS
    return max(-_MOST_FACTORS, min(_MOST_FACTORS, math.log2(found_ml / expected_ml)))
