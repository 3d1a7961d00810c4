"""Where labels lie beside each other: the source's label maps put over one another, and laid over a prediction.

Anatomy is the one thing that two modalities share. A network that meets a foreign contrast takes a bone in the pelvis
for a kidney as long as both are bright; that no kidney of the source lies a hand's breadth below the liver's edge, it
never asks. The atlas asks. It knows directions and distances in voxels of a working grid whose axes mean the same in
both domains (right, anterior, superior), and nothing of intensities.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from monai_transfer.adaptation.aligned_maps import (
    SHARE_FLOOR,
    best_aligned,
    box_around,
    halved,
    in_common,
    laid_in,
    with_background,
)
from monai_transfer.adaptation.lesions import lesion_habits
from monai_transfer.adaptation.refinement import of_sizes
from monai_transfer.adaptation.turning import turned_atlas
from monai_transfer.transforms.target import likeliest_class

_CANDIDATES = 3
"""Places to look at: the organs, and what a network that knows their layout takes for them elsewhere."""

_LEAST_MATCH = 0.5
"""Share of the best match from which on another place is a candidate."""

_POSSIBLE = 0.05
"""Part of a class's greatest share from which on it may lie at a place; a thin one has small shares everywhere."""

_HELD = 0.5
"""Most by which the logarithm of a class's odds changes to keep its size: a network may draw all organs too large."""

_LOST = 0.35
"""Share of its usual size below which a class is lost; a third is less than any subject's organ differs by."""


class LabelAtlas:
    r"""Probabilities of the classes by place, for label maps aligned with each other.

    The maps of the source are shifted so that the centroids of their classes agree (by medians: one missing or cut
    organ moves nothing), averaged, and blurred by the Gaussian under which each map is likeliest by the atlas of the
    others. The atlas may lie over a prediction wherever their correlation has a peak, every class counting alike, and
    at the best of these places as it is or turned as the labels are.

    A lesion may lie anywhere. A class whose voxels are not where the atlas of the other maps expects it is not
    :attr:`placed`: it is likely wherever anything is, and has no part in laying the atlas. Nor is it known how far an
    organ goes on that mostly ends at the border of its map (:attr:`reach`).

    :meth:`correct` multiplies, :math:`q_{vc} \propto p_{vc} \, a_{vc}^\lambda`, with the atlas :math:`a` as the prior
    of the place. Where the network has lost a class, what it calls background may be that class too: the place alone
    proposes where, and the volume's intensities (:func:`~monai_transfer.adaptation.refine_probabilities`) then tell
    what of it is. Probabilistic atlases: Ashburner and Friston, *Unified segmentation*, NeuroImage 2005.

    Args:
        labels: of the source, ``(1, *spatial)`` each, on the working grid, in two or three dimensions; the shapes may
            differ.
        classes: number of classes, background included.

    Raises:
        ValueError: when no map holds a class.

    Example:
        >>> label = torch.zeros(1, 24, 24, dtype=torch.long)
        >>> label[0, 4:8, 4:8], label[0, 14:18, 14:18] = 1, 2
        >>> atlas = LabelAtlas([label, label.roll(1, 1), label.roll(2, 2)], classes=3)
        >>> probabilities = torch.nn.functional.one_hot(label[0], 3).movedim(-1, 0).float()
        >>> probabilities[:, 20:22, 2:6] = torch.tensor([0.4, 0.6, 0.0])[:, None, None]  # class 1 in the wrong place
        >>> share = atlas.laid(atlas.places(probabilities)[0], probabilities.shape[1:])
        >>> corrected = atlas.correct(probabilities, share, weight=0.7).argmax(0)
        >>> bool((corrected == label[0]).all())
        True
    """

    def __init__(self, labels: Sequence[Tensor], classes: int) -> None:
        aligned = best_aligned(labels, classes)
        self._hold(
            share=aligned.share(),
            usual=aligned.usual_sizes(),
            placed=aligned.placed,
            reach=aligned.reach(),
            lesions=torch.zeros(classes - 1, 3),
            sigma=aligned.sigma,
        )

    @classmethod
    def of_parts(cls, **parts: Any) -> "LabelAtlas":
        """An atlas of its attributes, which are known."""
        atlas = cls.__new__(cls)
        atlas._hold(**parts)
        return atlas

    def learn_lesions(self, labels: Sequence[Tensor]) -> None:
        """Measure how the classes without a place lie in the label maps; before that, any way of lying is believed."""
        self.lesions = lesion_habits(labels, self.placed)

    def _hold(
        self, *, share: Tensor, usual: Tensor, placed: Tensor, reach: Tensor, lesions: Tensor, sigma: float
    ) -> None:
        self.share = share
        """Share of each class by place, ``(classes - 1, *canvas)``."""
        self.usual = usual
        """Median number of voxels of each class where it occurs, ``(classes - 1,)``; 0 for one that never does."""
        self.placed = placed
        """Whether each class has a place of its own, as organs have and lesions have not, ``(classes - 1,)``."""
        self.reach = reach
        """Voxels of the canvas beyond which nothing is known of a class, ``(classes - 1, dimensions, 2)``."""
        self.lesions = lesions
        """:func:`~monai_transfer.adaptation.lesions.lesion_habits`; zeros until they are learnt."""
        self.sigma = sigma
        """Voxels of the blur."""
        # 0 where no case has the class, 1 where all have it: what a hit is worth when the atlas is laid over something
        self._worth = ((share + SHARE_FLOOR) / SHARE_FLOOR).log() / math.log(1 / SHARE_FLOOR)

    def places(self, probabilities: Tensor, *, turn: bool = False) -> list["Place"]:
        """Where the atlas may lie over ``(classes, *spatial)``, best match first, turned too if asked; maybe none."""
        numbers = torch.arange(1, len(probabilities), device=probabilities.device)
        found = probabilities[1:] * (likeliest_class(probabilities)[None] == _over(numbers, probabilities))
        if not bool(found[self.placed].any()):
            return []
        # every class counts by its usual size: a large one must not outvote the others, nor one of a few voxels
        weights = self.placed.to(found) / self.placed.sum().clamp(min=1) / self.usual.to(found).clamp(min=1)
        found = found * _over(weights, found)
        worth = self._worth.to(found)
        # most of a volume is background, where nothing can match; whole pairs of voxels, which halves are made of
        box = tuple(slice(edge.start // 2 * 2, -(-edge.stop // 2) * 2) for edge in box_around(found.any(0), 0))
        found, first = found[(slice(None), *box)], [edge.start for edge in box]
        peaks: list[Place] = []
        for corner in _correlation_peaks(halved(found), halved(worth), _CANDIDATES):
            # a peak is known to two voxels: try its neighbours
            near = [
                [2 * at + step for at, step in zip(corner, steps, strict=True)]
                for steps in itertools.product((-1, 0, 1), repeat=len(corner))
            ]
            matches = [_match(found, worth, place) for place in near]
            best = near[matches.index(max(matches))]
            peaks.append(Place(tuple(at + low for at, low in zip(best, first, strict=True)), max(matches)))
        if turn:
            best_peak = max(peaks, key=lambda peak: peak.match)
            order = [number for number in self.usual.argsort(descending=True).tolist() if self.placed[number]]
            turned = turned_atlas(self.share, self._worth, found, first, best_peak.corner, order=order)
            if turned is not None:
                by, more = turned
                peaks.append(Place(best_peak.corner, best_peak.match * more, by))
        peaks.sort(key=lambda peak: -peak.match)
        return [peak for peak in peaks if peak.match >= _LEAST_MATCH * peaks[0].match]

    def laid(self, place: "Place", shape: Sequence[int]) -> Tensor:
        """Share of every class ``(classes, *shape)``, background first, where the atlas lies at ``place``."""
        own = self.share * _over(self.placed, self.share)
        at = [] if place.turn is None and not bool(self.reach.isfinite().any()) else place.coordinates(shape)
        share = with_background(laid_in(shape, own, place.corner) if place.turn is None else _sampled(own, at))
        greatest = share.amax(0)
        share[1:][~self.placed] = greatest
        for number, axis, end in self.reach.isfinite().nonzero().tolist():
            # beyond what any map shows an organ may go on that ended at the border of most
            beyond = (torch.gt if end else torch.lt)(at[axis], self.reach[number, axis, end])
            share[1 + number] = torch.where(beyond, greatest, share[1 + number])
        return share

    def correct(self, probabilities: Tensor, share: Tensor, *, weight: float, find_lost: bool = True) -> Tensor:
        """Probabilities of a prediction, beside what is likely at each place.

        Where a class may lie it stays about as large as it was drawn: shares that are blurred tell of its place, and
        little of its size.

        Args:
            probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
            share: what :meth:`laid` gave, of the same shape.
            weight: exponent of the atlas; 0 leaves the prediction alone.
            find_lost: whether to propose where a class lies of which the network finds next to nothing.
        """
        share = share.to(probabilities)
        sizes = _possible_sizes(likeliest_class(probabilities), share)
        corrected = of_sizes(_weighed(probabilities, share, weight), sizes, most=_HELD).softmax(0)
        numbers = self.lost(corrected) if find_lost else ()
        if not len(numbers):
            return corrected
        candid, weights = probabilities.clone(), probabilities.new_full((len(probabilities),), weight)
        candid[0] += probabilities[numbers].sum(0)
        candid[numbers], weights[numbers] = candid[0].clone(), 1.0
        return _weighed(candid, share, _over(weights, candid)).softmax(0)

    def lost(self, probabilities: Tensor) -> Tensor:
        """Numbers of the classes with a place of which a prediction ``(classes, *spatial)`` has next to nothing."""
        sizes = torch.bincount(likeliest_class(probabilities).flatten(), minlength=len(probabilities))[1:]
        missing = (sizes < _LOST * self.usual.to(sizes.device)) & self.placed.to(sizes.device)
        numbers: Tensor = missing.nonzero()[:, 0] + 1
        return numbers


@dataclass(frozen=True)
class Place:
    """A place of an atlas over a prediction.

    Attributes:
        corner: voxel of the prediction at which the atlas's first corner lies; it may lie outside.
        match: mean over the classes of the part of their usual size that is found where the atlas expects it; 0 for
            none, about 1 for all.
        turn: from voxels of the prediction to voxels of the atlas, ``(dimensions, dimensions + 1)``; ``None`` where it
            lies as the source's bodies do.
    """

    corner: tuple[int, ...]
    match: float
    turn: Tensor | None = None

    def coordinates(self, shape: Sequence[int]) -> list[Tensor]:
        """Coordinate along each axis of the atlas of the voxels of a prediction, all of its ``shape``."""
        steps = torch.meshgrid(*[torch.arange(size).float() for size in shape], indexing="ij")
        if self.turn is None:
            return [step - first for step, first in zip(steps, self.corner, strict=True)]
        return [sum(step * by for step, by in zip(steps, row, strict=False)) + row[-1] for row in self.turn.tolist()]


def _possible_sizes(label: Tensor, share: Tensor) -> Tensor:
    """Voxels of each class in a label map ``(*spatial)`` where its share ``(classes, *spatial)`` lets it lie."""
    flat, shares = label.flatten(), share.flatten(1)
    drawn = flat.nonzero()[:, 0]
    numbers = flat[drawn]
    possible = shares[numbers, drawn] >= _POSSIBLE * shares.amax(1)[numbers]
    sizes = torch.bincount(numbers[possible], minlength=len(share))
    sizes[0] = len(flat) - len(drawn)
    return sizes


def _weighed(probabilities: Tensor, share: Tensor, weight: Tensor | float) -> Tensor:
    """Logarithm of prediction times atlas to the power of ``weight``."""
    weighed: Tensor = probabilities.clamp(min=1e-6).log() + weight * (share + SHARE_FLOOR).log()
    return weighed


def _correlation_peaks(image: Tensor, template: Tensor, most: int) -> list[list[int]]:
    """Places of the template's first corner in the image where the correlation, summed over the channels, is greatest.

    Both are ``(channels, *spatial)``; the template may stick out on all sides, so that places may be negative. Peaks
    are at least a quarter of the template apart along some axis.
    """
    inner, axes = image.shape[1:], tuple(range(1, image.ndim))
    size = [next_fast_len(a + b, real=True) for a, b in zip(inner, template.shape[1:], strict=True)]
    product = torch.fft.rfftn(image, size, dim=axes) * torch.fft.rfftn(template, size, dim=axes).conj()
    match = torch.fft.irfftn(product.sum(0), size)
    places = []
    for _ in range(most):
        peak = [int(index) for index in torch.unravel_index(match.argmax(), size)]
        # the correlation is circular: what lies beyond the image is a place before its first voxel
        places.append(
            [at if at < within else at - around for at, within, around in zip(peak, inner, size, strict=True)]
        )
        quarters = [torch.arange(-(length // 4), length // 4 + 1) for length in template.shape[1:]]
        around = [(at + near) % length for at, near, length in zip(peak, quarters, size, strict=True)]
        match[torch.meshgrid(*around, indexing="ij")] = -torch.inf
    return places


def _sampled(maps: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Maps ``(channels, *any)`` at places given by a coordinate ``(*spatial)`` along each axis; 0 outside."""
    ends = torch.tensor(maps.shape[1:]) - 1
    places = torch.stack([2 * axis / end.clamp(min=1) - 1 for axis, end in zip(at, ends, strict=True)][::-1], -1)
    return F.grid_sample(maps[None], places[None], align_corners=True)[0]


def _match(found: Tensor, worth: Tensor, corner: Sequence[int]) -> float:
    """Sum of the products where a block ``(channels, *any)`` lies over a field of as many channels."""
    here, there = in_common(found.shape[1:], worth.shape[1:], corner)
    return float((found[here] * worth[there]).sum())


def _over(values: Tensor, maps: Tensor) -> Tensor:
    """One value per channel, to be broadcast over ``(channels, *spatial)``."""
    return values.reshape(-1, *[1] * (maps.ndim - 1))
