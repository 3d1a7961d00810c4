"""Label maps of several people put over one another, and what they say of each other's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from monai.transforms.utils import generate_spatial_bounding_box
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

_SIGMAS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Blurs to choose from, voxels: from subjects who lie alike to subjects who differ by an organ's breadth."""

_SIGMA_OF_FEW = 2.0
"""Blur where fewer than three label maps leave nothing to choose by."""

_MARGIN = 8
"""Voxels around all labels, enough for the tails of the widest blur that matter."""

_ROUNDS = 5
"""Rounds of aligning the cases by the medians of their centroids, which settle after two or three."""

_EXPECTED = 0.138
"""Share of a class, beside that of the likeliest other one, from which on a place does not speak against it: a voxel of
probability 0.8 keeps its class there, by an atlas of exponent 0.7."""

_OWN_PLACE = 0.6
"""Share of a class's voxels that are where the other maps expect it, in half of the cases, if the class has a place:
0.66 to 0.99 were measured for organs and parts of the brain, 0.02 to 0.50 for lesions."""

_TRIED = 6
"""Classes by each of which alone maps are aligned where few agree: an organ is among the largest."""

_OPEN = 0.5
"""Share of the cases from which on a class that ends at the border is one that goes on beyond it."""

FEWEST_MAPS = 3
"""Label maps without which an atlas says more of a person than of people, and is not kept."""

MOST_MAPS = 24
"""Enough for an atlas or a deviation, and read within seconds."""

_MOST_NUMBERS = 2**29
"""Classes times voxels of all maps of an atlas: 2 GB."""

SHARE_FLOOR = 1e-4
"""Share that every class has everywhere: what no case shows is unlikely, and not impossible."""


def some_label_maps(labelled: Sequence[Mapping[str, Any]], most: int = MOST_MAPS) -> list[Tensor]:
    """At most so many label maps at even distances, ``(1, *spatial)`` each.

    Args:
        labelled: ``{"label": (1, *spatial)}``, read when they are asked for.
        most: at least 1.
    """
    chosen = range(0, len(labelled), -(-len(labelled) // most) or 1)
    return [convert_to_tensor(labelled[number][Keys.LABEL], track_meta=False) for number in chosen]


def atlas_label_maps(labelled: Sequence[Mapping[str, Any]], classes: int) -> list[Tensor]:
    """As many of them as an atlas has room for in memory; none where that is one or two of many, who are no atlas.

    Args:
        labelled: ``{"label": (1, *spatial)}`` on one working grid.
        classes: number of classes, background included.
    """
    if not len(labelled):
        return []
    room = _MOST_NUMBERS // (classes * math.prod(labelled[0][Keys.LABEL].shape))
    return some_label_maps(labelled, min(MOST_MAPS, room)) if room >= min(FEWEST_MAPS, len(labelled)) else []


def best_aligned(labels: Sequence[Tensor], classes: int) -> "AlignedMaps":
    """The maps, aligned by those of their classes that have a place of their own (:attr:`AlignedMaps.placed`).

    Lesions, which lie anywhere, would put the organs of two people side by side.

    Args:
        labels: ``(1, *spatial)`` each.
        classes: number of classes, background included.

    Raises:
        ValueError: when no map holds a class.
    """
    aligned = AlignedMaps(labels, classes)
    placed = aligned.placed
    if bool(placed.all()) or classes == 2:
        return aligned
    if 2 * int(placed.sum()) <= len(placed):
        # by each large class alone: the one with which most others agree says which have a place
        largest = aligned.usual_sizes().argsort(descending=True)[:_TRIED].tolist()
        ways = [torch.arange(classes - 1) == number for number in largest]
        agreeing = [placed, *(AlignedMaps(labels, classes, by=way).placed for way in ways)]
        placed = max(agreeing, key=lambda each: int(each.sum()))
    return AlignedMaps(labels, classes, by=placed) if bool(placed.any()) else aligned


class AlignedMaps:
    """Label maps, shifted so that the centroids of their classes agree by medians: one cut organ moves nothing.

    Args:
        labels: ``(1, *spatial)`` each, in two or three dimensions; the shapes may differ.
        classes: number of classes, background included.
        by: the classes that decide, boolean, ``(classes - 1,)``; all by default.

    Raises:
        ValueError: when no map holds a class.

    Example:
        >>> label = torch.zeros(1, 24, 24, dtype=torch.long)
        >>> label[0, 4:8, 4:8] = 1
        >>> aligned = AlignedMaps([label, label.roll(2, 1)], classes=2)
        >>> bool((aligned.maps[0] == aligned.maps[1]).all())
        True
    """

    def __init__(self, labels: Sequence[Tensor], classes: int, *, by: Tensor | None = None) -> None:
        by = torch.ones(classes - 1, dtype=torch.bool) if by is None else by
        maps = [_one_hot(label, classes) for label in labels]
        maps = [one_hot for one_hot in maps if bool(one_hot.any())]
        if not maps:
            raise ValueError("an atlas needs a label map that holds a class")
        self.ends = torch.stack([_ends(one_hot) for one_hot in maps])
        """Whether each class ends at the border of its map, at either end of each axis, NaN where it is absent:
        ``(cases, classes - 1, dimensions, 2)``."""
        centroids = _completed(torch.stack([_centroids(one_hot) for one_hot in maps]), by)
        shift = centroids.nanmean(1)
        for _ in range(_ROUNDS):
            usual = (centroids - shift[:, None]).nanmedian(0).values
            shift = (centroids - usual).nanmedian(1).values
        shift = shift.round().long()
        corners = [one_hot.any(0).nonzero() - step for one_hot, step in zip(maps, shift, strict=True)]
        low = torch.stack([voxels.amin(0) for voxels in corners]).amin(0) - _MARGIN
        size = (torch.stack([voxels.amax(0) for voxels in corners]).amax(0) + _MARGIN - low + 1).tolist()
        places = list(zip(maps, [(-step - low).tolist() for step in shift], strict=True))
        self.maps = torch.stack([laid_in(size, one_hot, place) for one_hot, place in places])
        """The classes without the background on one canvas, ``(cases, classes - 1, *canvas)``."""
        self.seen = torch.stack([laid_in(size, torch.ones_like(one_hot[:1]), place) for one_hot, place in places])
        """Where each map was seen, ``(cases, 1, *canvas)``."""
        self.sigma = self._best_sigma(torch.cat([torch.ones(1, dtype=torch.bool), by]))
        """The blur under which each map is likeliest by the share of the others, all that decide counting alike."""

    def share(self) -> Tensor:
        """Share of each class by place, blurred, ``(classes - 1, *canvas)``."""
        # what was not seen is blurred in as unknown, not as background: an organ goes on to the border of its map
        seen = blurred(self.seen.sum(0), self.sigma).clamp(min=0.5)
        return (blurred(self.maps.sum(0), self.sigma) / seen).clamp(0, 1)

    def usual_sizes(self) -> Tensor:
        """Median number of voxels of each class where it occurs, ``(classes - 1,)``; 0 for one that never does."""
        counts = self.maps.flatten(2).sum(2)
        return torch.where(counts > 0, counts, torch.nan).nanmedian(0).values.nan_to_num(0.0)

    def reach(self) -> Tensor:
        """How far the maps tell of a class along each axis, in voxels of the canvas, ``(classes - 1, dimensions, 2)``.

        Infinitely far, but where it mostly ends at the border of its map, as an aorta does that goes on beyond it.
        """
        axes = range(self.seen.ndim - 2)
        covered = [self.seen.any(0)[0].movedim(axis, 0).flatten(1).any(1).nonzero()[:, 0] for axis in axes]
        extent = torch.stack([torch.stack([inside.min(), inside.max()]) for inside in covered]).float()
        nowhere = torch.tensor([-torch.inf, torch.inf]).expand_as(extent)
        return torch.where(self.ends.nanmean(0) >= _OPEN, extent, nowhere)

    @cached_property
    def placed(self) -> Tensor:
        """Whether each class lies where the other maps expect it, ``(classes - 1,)``; all do where one map is alone."""
        if len(self.maps) < 2:
            return torch.ones(self.maps.shape[1], dtype=torch.bool)
        expected = torch.stack([_expected(truth, share) for truth, share in self._by_the_others(self.sigma)])
        return expected.nanmedian(0).values.nan_to_num(1.0) >= _OWN_PLACE

    def _best_sigma(self, deciding: Tensor) -> float:
        if len(self.maps) < 3:
            return _SIGMA_OF_FEW

        def likelihood(sigma: float) -> float:
            sums = 0.0
            for truth, share in self._by_the_others(sigma):
                count = truth.flatten(1).sum(1)
                each = ((share + SHARE_FLOOR).log() * truth).flatten(1).sum(1) / count.clamp(min=1)
                sums += float(each[deciding][count[deciding] > 0].sum())
            return sums

        return max(_SIGMAS, key=likelihood)

    @cached_property
    def _halves(self) -> tuple[Tensor, Tensor]:
        return torch.stack([halved(case) for case in self.maps]), torch.stack([halved(case) for case in self.seen])

    def _by_the_others(self, sigma: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Each map and the blurred share of all others, both ``(classes, *canvas)`` with the background first.

        At half of the resolution, where it costs an eighth.
        """
        maps, seen = self._halves
        smooth = torch.stack([blurred(case, sigma / 2) for case in maps])
        total, cover = smooth.sum(0), seen.sum(0)
        for case, alone, own in zip(maps, smooth, seen, strict=True):
            share = ((total - alone) / (cover - own).clamp(min=0.5)).clamp(0, 1)
            yield with_background(case) * torch.cat([own, torch.ones_like(case)]), with_background(share)


def _expected(truth: Tensor, share: Tensor) -> Tensor:
    """Share of each class's voxels that are where its share is not small beside another's; NaN where it is absent."""
    share, found = share + SHARE_FLOOR, []
    for number in range(1, len(share)):
        other = torch.cat([share[:number], share[number + 1 :]]).amax(0)
        inside = truth[number] * (share[number] >= _EXPECTED * other)
        found.append(inside.sum() / truth[number].sum())
    return torch.stack(found)


def _completed(centroids: Tensor, by: Tensor) -> Tensor:
    """The centroids of these classes alone, ``(cases, classes, dimensions)``, and of the others where there is none."""
    alone = centroids.masked_fill(~by[:, None], torch.nan)
    return torch.where(alone.isfinite().any(1, keepdim=True), alone, centroids)


def with_background(share: Tensor) -> Tensor:
    """Shares ``(classes - 1, *spatial)`` with what they leave to the background before them."""
    return torch.cat([(1 - share.sum(0, keepdim=True)).clamp(min=0), share])


def _one_hot(label: Tensor, classes: int) -> Tensor:
    """The classes but the background of a label ``(1, *spatial)``, as ``(classes - 1, *spatial)``."""
    return F.one_hot(label[0].long(), classes).movedim(-1, 0)[1:].float()


def _ends(one_hot: Tensor) -> Tensor:
    """Whether each class ends at the border, ``(classes - 1, dimensions, 2)``; NaN where it is absent."""
    axes = range(1, one_hot.ndim)
    sides = [torch.stack([one_hot.select(axis, end).flatten(1).any(1) for end in (0, -1)], 1) for axis in axes]
    absent = ~one_hot.flatten(1).any(1)
    return torch.stack(sides, 1).float().masked_fill(absent[:, None, None], torch.nan)


def _centroids(one_hot: Tensor) -> Tensor:
    """Centroid of each class ``(classes - 1, dimensions)`` in voxels; NaN where it is absent."""
    nothing = torch.full((one_hot.ndim - 1,), math.nan)
    return torch.stack([mask.nonzero().float().mean(0) if bool(mask.any()) else nothing for mask in one_hot])


def laid_in(shape: Sequence[int], block: Tensor, corner: Sequence[int]) -> Tensor:
    """``block`` ``(channels, *any)`` in a field of zeros ``(channels, *shape)``, its first corner at ``corner``."""
    field = block.new_zeros(len(block), *shape)
    here, there = in_common(shape, block.shape[1:], corner)
    field[here] = block[there]
    return field


def in_common(
    shape: Sequence[int], block: Sequence[int], corner: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What a field and a block whose first corner lies at ``corner`` have in common, as parts of either.

    Args:
        shape: of the field, without its channels.
        block: shape of the block, without its channels.
        corner: voxel of the field, which may lie outside.

    Example:
        >>> in_common((10,), (4,), (-1,))
        ((slice(None, None, None), slice(0, 3, None)), (slice(None, None, None), slice(1, 4, None)))
    """
    here, there = [slice(None)], [slice(None)]
    for length, room, at in zip(block, shape, corner, strict=True):
        first = max(0, -int(at))
        last = max(first, min(length, room - int(at)))
        here.append(slice(first + int(at), last + int(at)))
        there.append(slice(first, last))
    return tuple(here), tuple(there)


def box_around(mask: Tensor, margin: int) -> tuple[slice, ...]:
    """The box of ``(*spatial)`` that holds a mask and so many voxels on every side, as far as there are any."""
    low, high = generate_spatial_bounding_box(mask[None], margin=margin, allow_smaller=True)
    return tuple(slice(first, last) for first, last in zip(low, high, strict=True))


def halved(maps: Tensor) -> Tensor:
    """Maps ``(channels, *spatial)`` at half of the resolution, by means."""
    pool = F.avg_pool3d if maps.ndim == 4 else F.avg_pool2d
    return pool(maps[None], 2, ceil_mode=True)[0]


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps ``(channels, *spatial)`` through a Gaussian of so many voxels."""
    smooth: Tensor = GaussianFilter(maps.ndim - 1, sigma).to(maps)(maps[None])[0]
    return smooth
