"""Whether an image is like those that a bundle has seen: its intensities, its layout, its labels and where they lie.

A network labels whatever it is given. That an MR was given to a network for CT, a chest to one for the abdomen, a
volume that lies on its head or half of one, shows in a few hundred coarse numbers
(:mod:`monai_transfer.evaluation.description`): of the image, of the labels that were found in it, and of how sure and
how steady they are. They are measured on some images that the bundle was made from, and kept as means and deviations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from monai_transfer.evaluation.description import LAYOUT_CELLS, Description, ImageKind
from monai_transfer.evaluation.rivals import Rival, lag

FEWEST = 4
"""Images whose spread can be told: with fewer, one that is left out is far from the mean of what remains."""

_LOPSIDED = 0.3
"""Correlation from which on the images agree so well in what is lopsided along an axis that a flipped one shows."""

_SLACK = 1.5
"""An image may be so many times as far from the mean as the farthest of those that were seen was from the others'."""

_TOGETHER = 1.25
"""The same of all that is measured taken together, which differs less between images of one kind."""

_RIVALS = ("mirror", "nearest")

_AXES = ("left and right", "back and front", "foot and head")

_MIRRORED = ("layout", "label sizes", "label places", "label intensities", "label agreement")
"""In what an image whose sides are exchanged differs from its mirror image, which is right."""

_OTHER = ("intensities", "layout", "label intensities")
"""In what two kinds of images differ; how large organs are and where they lie differs between people."""

_WORDS = {
    "intensities": "its intensities are not those of the images that the bundle has seen: is it of another modality?",
    "other": "it is nearer to the images that the bundle comes from than to those that it was adapted to: is it of "
    "another modality?",
    **{axis: f"it looks flipped, {axis} exchanged, against the images that the bundle has seen" for axis in _AXES},
    "layout": "it is not laid out as the images that the bundle has seen: is it turned, flipped, cut, or of another "
    "part of the body?",
    "label sizes": "the labels that were found are not as large as usual",
    "label places": "the labels that were found do not lie where they usually do",
    "label borders": "labels that were found end at the border of the image, where they usually do not: is it cut?",
    "label intensities": "the labels that were found, or what surrounds them, have other intensities than usual: is it "
    "of another modality?",
    "label agreement": "the network is less sure of its labels than usual, or they change with the window",
    "together": "it is a little unlike the images that the bundle has seen in all that is measured: is it of another "
    "kind, turned, flipped or cut?",
}


@dataclass(frozen=True)
class Familiarity:
    """What is usual, and how far from it an image may be.

    Attributes:
        usual: the kind that was seen.
        limits: what is described -> greatest distance that is taken for usual.
        sides: for each axis the median correlation of what is lopsided in the layout of one image with that of the
            others; near 0 where left and right are alike.
        together: greatest root mean square of all distances, each in shares of its limit; ``None`` where unknown.
        mirror: weighs an image against its mirror image, left for right; ``None`` where that tells nothing.
        other: another kind, which an image should not be nearer to, as that which a bundle was adapted from.
        nearest: weighs the distances from both kinds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> seen = [{"intensities": rng.normal(size=19)} for _ in range(8)]
        >>> usual = Familiarity.learn(seen)
        >>> usual.unlike({"intensities": rng.normal(size=19)}), len(usual.unlike({"intensities": np.full(19, 9.0)}))
        ([], 1)
    """

    usual: ImageKind
    limits: Mapping[str, float]
    sides: tuple[float, ...] = ()
    together: float | None = None
    mirror: Rival | None = None
    other: ImageKind | None = None
    nearest: Rival | None = None

    @classmethod
    def learn(
        cls, seen: Sequence[Description], *, mirrored: Sequence[Description] = (), other: ImageKind | None = None
    ) -> Self:
        """From at least :data:`FEWEST` images.

        The limit is what the farthest of them is from the mean of the others, and half as much again; a quarter as much
        for all that is measured together.

        Args:
            seen: the images.
            mirrored: the same, mirrored from left to right.
            other: a kind that they are not of.

        Raises:
            ValueError: they are too few.
        """
        if len(seen) < FEWEST:
            raise ValueError(f"{len(seen)} images are too few: what is usual needs at least {FEWEST}")
        rests = [ImageKind.of([*seen[:number], *seen[number + 1 :]]) for number in range(len(seen))]
        limits, shares = {}, []
        for what in rests[0].mean:
            distances = [rest.distance(what, one) for one, rest in zip(seen, rests, strict=True)]
            limits[what] = _SLACK * max(1.0, *distances)
            shares.append(np.array(distances) / limits[what])
        sides: tuple[float, ...] = ()
        if "layout" in rests[0].mean:
            alike = [_sides(one["layout"], rest.mean["layout"]) for one, rest in zip(seen, rests, strict=True)]
            sides = tuple(np.median(alike, axis=0).tolist())
        mirror = nearest = None
        if mirrored:
            mirror = Rival.learn([_turned(*each) for each in zip(rests, seen, mirrored, strict=True)])
        if other is not None:
            nearest = Rival.learn([_between(rest, other, one) for one, rest in zip(seen, rests, strict=True)])
        # copies of one image have no distance from each other, and another image none that can be divided by it
        together = _TOGETHER * max(float(np.sqrt(np.mean(np.square(shares), axis=0)).max()), 1e-3)
        return cls(ImageKind.of(seen), limits, sides, together, mirror, other if nearest else None, nearest)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave; bundles made before know of no mirror and of no other kind."""
        usual, other = ImageKind.from_dict(content), content.get("other")
        limits = {what: float(content[what]["limit"]) for what in usual.mean}
        together = content.get("together")
        mirror, nearest = (Rival.from_dict(part) if (part := content.get(name)) else None for name in _RIVALS)
        return cls(
            usual,
            limits,
            tuple(float(side) for side in content.get("sides", ())),
            None if together is None else float(together),
            mirror,
            ImageKind.from_dict(other) if other else None,
            nearest,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: what is described -> mean, deviation and limit; the sides, and the rivals."""
        described = self.usual.as_dict()
        return {
            **{what: {"limit": round(limit, 4), **described[what]} for what, limit in self.limits.items()},
            "sides": [round(side, 4) for side in self.sides],
            "together": self.together,
            "other": self.other.as_dict() if self.other else None,
            **{name: rival.as_dict() if (rival := getattr(self, name)) else None for name in _RIVALS},
        }

    def distances(self, description: Description, mirrored: Description | None = None) -> dict[str, float]:
        """How far an image is from what is usual, in limits: above 1 it is unlike what was seen.

        An image of another number of channels or labels is infinitely far. Along an axis along which bodies are
        lopsided (the liver is on the right) 1 is reached where an image is half as much so the other way round.

        Args:
            description: of the image.
            mirrored: of its mirror image, left for right.
        """
        distances = {
            what: self.usual.distance(what, description) / limit if self.usual.measures(what, description) else math.inf
            for what, limit in self.limits.items()
        }
        if self.together is not None:
            distances["together"] = math.sqrt(fmean(share**2 for share in distances.values())) / self.together
        if math.isinf(max(distances.values())):
            return distances
        if self.sides:
            found = _sides(description["layout"], self.usual.mean["layout"])
            for axis, one, usual in zip(_AXES, found, self.sides, strict=False):
                distances[axis] = -2 * one / usual if usual >= _LOPSIDED else 0.0
        if self.mirror is not None and mirrored is not None:
            turned = self.mirror.nearer(_turned(self.usual, description, mirrored))
            distances[_AXES[0]] = max(distances.get(_AXES[0], 0.0), turned)
        if self.nearest is not None and self.other is not None:
            distances["other"] = self.nearest.nearer(_between(self.usual, self.other, description))
        return distances

    def unlike(self, description: Description, mirrored: Description | None = None) -> list[str]:
        """In words, in what an image is unlike those that were seen; nothing where it is not."""
        told = [what for what, distance in self.distances(description, mirrored).items() if not distance <= 1]
        # the sum of small oddities is worth a word only where none of them is great
        return [_WORDS[what] for what in told if what != "together" or len(told) == 1]


def _turned(usual: ImageKind, description: Description, mirrored: Description) -> dict[str, float]:
    """By how much an image is farther from what is usual than its mirror image is."""
    return {
        what: lag(
            usual.distance(what, description, beside=mirrored), usual.distance(what, mirrored, beside=description)
        )
        for what in _MIRRORED
        if what in usual.mean
    }


def _between(usual: ImageKind, other: ImageKind, description: Description) -> dict[str, float]:
    """By how much an image is farther from what is usual than from another kind."""
    return {
        what: lag(usual.distance(what, description), other.distance(what, description))
        for what in _OTHER
        if what in usual.mean
    }


def _sides(layout: NDArray[np.float64], usual: NDArray[np.float64]) -> list[float]:
    """For each axis the correlation of what is lopsided in two layouts; -1 where one is the other flipped."""
    rank = int(math.log(len(layout), LAYOUT_CELLS) + 1e-9)  # fewer than six channels add less than one
    one, other = (cells.reshape(-1, *[LAYOUT_CELLS] * rank) for cells in (layout, usual))
    found = []
    for axis in range(1, rank + 1):
        a, b = one - np.flip(one, axis), other - np.flip(other, axis)
        found.append(float((a * b).sum() / max(math.sqrt((a * a).sum() * (b * b).sum()), 1e-9)))
    return found
