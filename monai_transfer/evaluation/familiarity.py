"""Whether an image is like those that a bundle has seen: its intensities, its layout, its labels and where they lie.

A network labels whatever it is given. That an MR was given to a network for CT, a chest to one for the abdomen, a
volume that lies on its head or half of one, shows in a few hundred coarse numbers: of the image, of the labels that
were found in it, and of how sure and how steady they are. They are measured on some images that the bundle was made
from, and kept as means and deviations: no image can be had back from them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.transforms.target import dilated

FEWEST = 4
"""Images whose spread can be told: with fewer, one that is left out is far from the mean of what remains."""

_QUANTILES = tuple(0.05 * step for step in range(1, 20))
_CELLS = 6
"""Cells of the layout along each axis: an abdomen then has its organs in cells of their own, and a person no face."""

_TRIMMED = 0.01
"""Share of the bright voxels that may lie outside of the box at each end: a hand, a table, an artefact."""

_FLOORS = {
    "intensities": 0.05,
    "layout": 0.15,
    "label sizes": 0.3,
    "label places": 0.03,
    "label intensities": 0.1,
    "label agreement": 0.05,
}
"""Least deviation that counts: few images are more alike than their kind. Working intensities have a deviation of about
1; layouts exactly 1; sizes are factors of two; places are shares of the box; agreements are Dice and probabilities."""

_RIM = 2
"""Voxels around a label that tell what surrounds it."""

_LOPSIDED = 0.3
"""Correlation from which on the images agree so well in what is lopsided along an axis that a flipped one shows."""

_SLACK = 1.5
"""An image may be so many times as far from the mean as the farthest of those that were seen was from the others'."""

_TOGETHER = 1.25
"""The same of all that is measured taken together, which differs less between images of one kind."""

_WORDS = {
    "intensities": "its intensities are not those of the images that the bundle has seen: is it of another modality?",
    "sides": "it looks flipped against the images that the bundle has seen",
    "layout": "it is not laid out as the images that the bundle has seen: is it turned, flipped, cut, or of another "
    "part of the body?",
    "label sizes": "the labels that were found are not as large as usual",
    "label places": "the labels that were found do not lie where they usually do",
    "label intensities": "the labels that were found, or what surrounds them, have other intensities than usual: is it "
    "of another modality?",
    "label agreement": "the network is less sure of its labels than usual, or they change with the window",
    "together": "it is a little unlike the images that the bundle has seen in all that is measured: is it of another "
    "kind, turned, flipped or cut?",
}

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
        ``label places`` (centres of mass in that box, 0 to 1), ``label intensities`` (medians in the label and around
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
    cells = F.interpolate(image[(slice(None), *box)][None].float(), (_CELLS,) * (image.ndim - 1), mode="area")[0]
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
        "label intensities": _label_intensities(image, label, classes),
    }
    if evidence is not None:
        described["label agreement"] = _agreement([evidence[number] for number in range(1, classes)])
    return described


@dataclass(frozen=True)
class Familiarity:
    """What is usual, and how far from it an image may be.

    Attributes:
        mean: of every number, by what it describes.
        deviation: the same.
        limits: what is described -> greatest distance that is taken for usual.
        sides: for each axis the median correlation of what is lopsided in the layout of one image with that of the
            others; near 0 where left and right are alike.
        together: greatest root mean square of all distances, each in shares of its limit; ``None`` where unknown.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> seen = [{"intensities": rng.normal(size=19)} for _ in range(8)]
        >>> usual = Familiarity.learn(seen)
        >>> usual.unlike({"intensities": rng.normal(size=19)}), len(usual.unlike({"intensities": np.full(19, 9.0)}))
        ([], 1)
    """

    mean: Mapping[str, NDArray[np.float64]]
    deviation: Mapping[str, NDArray[np.float64]]
    limits: Mapping[str, float]
    sides: tuple[float, ...] = ()
    together: float | None = None

    @classmethod
    def learn(cls, seen: Sequence[Description]) -> Self:
        """From at least :data:`FEWEST` images.

        The limit is what the farthest of them is from the mean of the others, and half as much again; a quarter as much
        for all that is measured together.

        Raises:
            ValueError: they are too few.
        """
        if len(seen) < FEWEST:
            raise ValueError(f"{len(seen)} images are too few: what is usual needs at least {FEWEST}")
        means, deviations, limits = {}, {}, {}
        shares = []
        for what in seen[0]:
            rows = np.array([one[what] for one in seen])
            means[what], deviations[what] = _moments(rows, _FLOORS[what])
            others = (np.delete(rows, number, 0) for number in range(len(rows)))
            distances = [_distance(row, *_moments(rest, _FLOORS[what])) for row, rest in zip(rows, others, strict=True)]
            limits[what] = _SLACK * max(1.0, *distances)
            shares.append(np.array(distances) / limits[what])
        layouts = np.array([one["layout"] for one in seen]) if "layout" in seen[0] else np.empty((0, 0))
        alike = [_sides(row, np.delete(layouts, number, 0).mean(0)) for number, row in enumerate(layouts)]
        together = _TOGETHER * float(np.sqrt(np.mean(np.square(shares), axis=0)).max())
        return cls(means, deviations, limits, tuple(np.median(alike, axis=0).tolist()) if alike else (), together)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave."""
        known = {what: content[what] for what in _FLOORS if what in content}
        means, deviations = (
            {what: _numbers(part[name]) for what, part in known.items()} for name in ("mean", "deviation")
        )
        limits = {what: float(part["limit"]) for what, part in known.items()}
        together = content.get("together")
        sides = tuple(float(side) for side in content.get("sides", ()))
        return cls(means, deviations, limits, sides, None if together is None else float(together))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what is described -> mean, deviation and limit; and the sides."""
        described = {
            what: {"limit": round(limit, 4), "mean": _plain(self.mean[what]), "deviation": _plain(self.deviation[what])}
            for what, limit in self.limits.items()
        }
        return {**described, "sides": [round(side, 4) for side in self.sides], "together": self.together}

    def distances(self, description: Description) -> dict[str, float]:
        """How far an image is from what is usual, in limits: above 1 it is unlike what was seen.

        An image of another number of channels or labels is infinitely far. Along an axis along which bodies are
        lopsided (the liver is on the right) ``sides`` reaches 1 where an image is half as much so the other way round.
        """
        flipped = 0.0
        if self.sides and len(description["layout"]) == len(self.mean["layout"]):
            found = _sides(description["layout"], self.mean["layout"])
            pairs = zip(found, self.sides, strict=True)
            flipped = max((-2 * one / usual for one, usual in pairs if usual >= _LOPSIDED), default=0.0)
        distances = {
            what: _distance(description[what], self.mean[what], self.deviation[what]) / limit
            if len(description.get(what, ())) == len(self.mean[what])
            else math.inf
            for what, limit in self.limits.items()
        }
        if self.together is not None:
            distances["together"] = math.sqrt(fmean(share**2 for share in distances.values())) / self.together
        return {**distances, "sides": max(flipped, 0.0)} if self.sides else distances

    def unlike(self, description: Description) -> list[str]:
        """In words, in what an image is unlike those that were seen; nothing where it is not."""
        told = [what for what, distance in self.distances(description).items() if not distance <= 1]
        # the sum of small oddities is worth a word only where none of them is great
        return [_WORDS[what] for what in told if what != "together" or len(told) == 1]


def _label_intensities(image: Tensor, label: Tensor, classes: int) -> NDArray[np.float64]:
    """For every channel and label its median intensity, and that of what surrounds it; NaN for a label not found."""
    found = np.full((len(image), classes - 1, 2), math.nan)
    for number in range(1, classes):
        inside = label == number
        if inside.any():
            for part, where in enumerate((inside, dilated(inside, _RIM) & ~inside)):
                found[:, number - 1, part] = image[:, where].float().median(1).values.double().cpu().numpy()
    return found.ravel()


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


def _sides(layout: NDArray[np.float64], usual: NDArray[np.float64]) -> list[float]:
    """For each axis the correlation of what is lopsided in two layouts; -1 where one is the other flipped."""
    rank = int(math.log(len(layout), _CELLS) + 1e-9)  # fewer than six channels add less than one
    one, other = (cells.reshape(-1, *[_CELLS] * rank) for cells in (layout, usual))
    found = []
    for axis in range(1, rank + 1):
        a, b = one - np.flip(one, axis), other - np.flip(other, axis)
        found.append(float((a * b).sum() / max(math.sqrt((a * a).sum() * (b * b).sum()), 1e-9)))
    return found


def _moments(rows: NDArray[np.float64], floor: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation over the images that have a number, at least the floor; a number that none has is not used."""
    known = np.isfinite(rows)
    count = known.sum(0)
    mean = np.where(known, rows, 0.0).sum(0) / np.maximum(count, 1)
    variance = np.where(known, (rows - mean) ** 2, 0.0).sum(0) / np.maximum(count - 1, 1)
    return np.where(count > 0, mean, math.nan), np.sqrt(np.maximum(variance, floor**2))


def _distance(row: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """Root mean square of the deviations that can be measured, each cut at ten: one odd cell is not the whole image."""
    z = np.minimum(np.abs(row - mean) / deviation, 10.0)
    z = z[np.isfinite(z)]
    return float(np.sqrt(np.mean(z**2))) if len(z) else 0.0


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [round(value, 4) if math.isfinite(value) else None for value in values.tolist()]


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
