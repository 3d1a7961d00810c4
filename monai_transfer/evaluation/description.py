"""A few hundred coarse numbers about an image and what a network found in it: no image can be had back from them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.transforms.target import dilated

LAYOUT_CELLS = 6
"""Cells of the layout along each axis: an abdomen then has its organs in cells of their own, and a person no face."""

_FLOORS = {
    "intensities": 0.05,
    "layout": 0.15,
    "label sizes": 0.3,
    "label places": 0.03,
    "label borders": 0.15,
    "label intensities": 0.1,
    "label agreement": 0.05,
}
"""Least deviation that counts: few images are more alike than their kind. Working intensities have a deviation of about
1; layouts exactly 1; sizes are factors of two; places are shares of the box; borders are cross-sections; agreements are
Dice and probabilities."""

_MOST = 10.0
"""Deviations at which a number is cut: one odd cell is not the whole image."""

_QUANTILES = tuple(0.05 * step for step in range(1, 20))

_TRIMMED = 0.01
"""Share of the bright voxels that may lie outside of the box at each end: a hand, a table, an artefact."""

_RIM = 2
"""Voxels around a label that tell what surrounds it."""

Description = dict[str, NDArray[np.float64]]
"""What is described, such as ``"layout"`` -> numbers; NaN where there is nothing to measure."""


def describe(
    image: Tensor, label: Tensor, *, classes: int, voxel_ml: float, evidence: Mapping[int, LabelEvidence] | None = None
) -> Description:
    """Some hundred numbers about an image and what a network found in it.

    Args:
        image: preprocessed, ``(channels, *spatial)``.
        label: class numbers, ``(*spatial)``.
        classes: number of classes, the background included.
        voxel_ml: volume of a voxel.
        evidence: class -> what else is seen of it.

    Returns:
        ``intensities`` (quantiles of each channel), ``layout`` (mean intensity in 6 cells along each axis of the box
        around what is bright, brought to mean 0 and deviation 1), ``label sizes`` (factors of two of a millilitre),
        ``label places`` (centres of mass in that box, 0 to 1), ``label borders`` (what of a label lies on one side of
        the image, in cross-sections of a cube of its volume), ``label intensities`` (medians in the label and around
        it) and, with ``evidence``, ``label agreement`` (its Dice and probabilities).

    Example:
        >>> image = torch.zeros(1, 8, 8, 8)
        >>> image[..., 2:6, 2:6, 2:6] = 1.0
        >>> seen = describe(image, image[0].long(), classes=2, voxel_ml=0.125)
        >>> seen["label sizes"].tolist(), seen["label places"].tolist()
        ([3.0], [0.5, 0.5, 0.5])
    """
    values = image.flatten(1).float()
    sample = values[:, :: max(1, values.shape[1] // 20_000)]
    quantiles = torch.quantile(sample, torch.tensor(_QUANTILES, device=image.device), dim=1).T
    box = _box(image)
    cells = F.interpolate(image[(slice(None), *box)][None].float(), (LAYOUT_CELLS,) * (image.ndim - 1), mode="area")[0]
    cells = cells.flatten(1)
    cells = (cells - cells.mean(1, keepdim=True)) / cells.std(1, keepdim=True).clamp(min=1e-6)
    counts = torch.bincount(label.flatten(), minlength=classes)[1:classes].double().cpu().numpy()
    places = np.full((classes - 1, label.ndim), math.nan)
    for number in np.flatnonzero(counts):
        centre = (label == int(number) + 1).nonzero().double().mean(0) + 0.5
        places[number] = [float(c - b.start) / (b.stop - b.start) for c, b in zip(centre, box, strict=True)]
    described = {
        "intensities": quantiles.double().cpu().numpy().ravel(),
        "layout": cells.double().cpu().numpy().ravel(),
        "label sizes": np.log2(np.maximum(counts, 0.5) * voxel_ml),
        "label places": places.ravel(),
        "label borders": _borders(label, counts),
        "label intensities": _label_intensities(image, label, classes),
    }
    if evidence is not None:
        described["label agreement"] = _agreement([evidence[number] for number in range(1, classes)])
    return described


@dataclass(frozen=True)
class ImageKind:
    """Mean and deviation of every number over the images of one kind, by what it describes.

    Example:
        >>> kind = ImageKind.of([{"label sizes": np.array([size, 5.0])} for size in (2.0, 4.0)])
        >>> kind.mean["label sizes"].tolist(), kind.distance("label sizes", {"label sizes": np.array([3.0, 5.0])})
        ([3.0, 5.0], 0.0)
    """

    mean: Mapping[str, NDArray[np.float64]]
    deviation: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, seen: Sequence[Description], *, whats: Collection[str] = tuple(_FLOORS)) -> Self:
        """Of the images ``seen``, in what is named in ``whats``."""
        known = [what for what in seen[0] if what in whats]
        moments = {what: _moments(np.array([one[what] for one in seen]), _FLOORS[what]) for what in known}
        return cls(*({what: pair[part] for what, pair in moments.items()} for part in (0, 1)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Mapping[str, Any]]) -> Self:
        """Read what :meth:`as_dict` gave; what this version does not describe is left out."""
        known = {what: content[what] for what in _FLOORS if what in content}
        return cls(*({what: _numbers(part[name]) for what, part in known.items()} for name in ("mean", "deviation")))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """JSON-ready: what is described -> mean and deviation."""
        return {
            what: {"mean": _plain(self.mean[what]), "deviation": _plain(self.deviation[what])} for what in self.mean
        }

    def measures(self, what: str, description: Description) -> bool:
        """Whether an image has as many of these numbers: one of other channels or labels has not."""
        return what in description and len(description[what]) == len(self.mean[what])

    def distance(self, what: str, description: Description, *, beside: Description | None = None) -> float:
        """Root mean square of the deviations that can be measured, here and in the description ``beside`` it."""
        z = np.minimum(np.abs(description[what] - self.mean[what]) / self.deviation[what], _MOST)
        z = z[np.isfinite(z) if beside is None else np.isfinite(z) & np.isfinite(beside[what])]
        return float(np.sqrt(np.mean(z**2))) if len(z) else 0.0


def _label_intensities(image: Tensor, label: Tensor, classes: int) -> NDArray[np.float64]:
    """For every channel and label its median intensity, and that of what surrounds it; NaN for a label not found."""
    found = np.full((len(image), classes - 1, 2), math.nan)
    for number in range(1, classes):
        inside = label == number
        if inside.any():
            for part, where in enumerate((inside, dilated(inside, _RIM) & ~inside)):
                found[:, number - 1, part] = image[:, where].float().median(1).values.double().cpu().numpy()
    return found.ravel()


def _borders(label: Tensor, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every label the most of it that lies on one side of the image: there a cut organ ends, and hardly another."""
    faces = [label.select(axis, end) for axis in range(label.ndim) for end in (0, -1)]
    found = [torch.bincount(face.flatten(), minlength=len(counts) + 1)[1 : len(counts) + 1] for face in faces]
    most = torch.stack(found).max(0).values.double().cpu().numpy()
    section = np.maximum(counts, 1.0) ** (1 - 1 / label.ndim)
    return np.where(counts > 0, most / section, math.nan)


def _agreement(evidence: Sequence[LabelEvidence]) -> NDArray[np.float64]:
    rows = [(one.shift, one.correction, one.confidence, one.expected, one.piece) for one in evidence]
    return np.array(rows, dtype=np.float64).ravel()  # None becomes NaN


def _box(image: Tensor) -> list[slice]:
    """The box around what is at least as bright as the mean of its channel, but for a few voxels at each end."""
    bright = (image >= image.flatten(1).mean(1).reshape(-1, *[1] * (image.ndim - 1))).any(0)
    box = []
    for axis in range(bright.ndim):
        along = bright.sum([other for other in range(bright.ndim) if other != axis]).double().cumsum(0)
        first, last = (int((along < share * along[-1]).sum()) for share in (_TRIMMED, 1 - _TRIMMED))
        box.append(slice(first, max(last, first) + 1))
    return box


def _moments(rows: NDArray[np.float64], floor: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation over the images that have a number, at least the floor; a number that none has is not used."""
    known = np.isfinite(rows)
    count = known.sum(0)
    mean = np.where(known, rows, 0.0).sum(0) / np.maximum(count, 1)
    variance = np.where(known, (rows - mean) ** 2, 0.0).sum(0) / np.maximum(count - 1, 1)
    return np.where(count > 0, mean, math.nan), np.sqrt(np.maximum(variance, floor**2))


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [round(value, 4) if math.isfinite(value) else None for value in values.tolist()]


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
