"""Boxes: a coarse network says where in a volume the labels lie, and a finer one looks there alone.

A finer grid costs by the third power, and most of a body is none of a network's business: the box around the organs of
an abdomen, with its margin, holds a third of a CT. So a bundle may keep a *finder*, a bundle of the same labels on a
coarser grid. Where that misses a label the whole volume is looked at, for what was not found may lie anywhere.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_transfer.datasets.label_values import pieces_of
from monai_transfer.inference.segmentation import PROBABILITY_SCALE, Segmentation
from monai_transfer.volumes.volume import Volume, spacing_of

logger = logging.getLogger(__name__)

MARGIN_MM = 25.0
"""Around what was found (docs/results.md, "Organ boxes")."""

_LEAST_PIECE = 0.2
"""Pieces of a label below this share of its largest one do not widen a box: most are mistaken."""

Box = tuple[slice, ...]
"""Voxels along each axis of the native grid."""

PartSeen = Callable[[Volume], tuple[Box, Volume]]
"""Gives the box of a volume in which a network looks, and the volume within it."""


def box_of(masks: Iterable[NDArray[np.bool_]], affine: NDArray[np.float64]) -> Box | None:
    """The box around the large pieces of some masks, :data:`MARGIN_MM` wider on every side.

    Args:
        masks: one or more, each ``(*native shape)``.
        affine: voxel to RAS millimetres, ``(4, 4)``.

    Returns:
        ``None`` where a mask is empty: what is not found may lie anywhere.

    Example:
        >>> mask = np.zeros((60, 60, 60), bool)
        >>> mask[40:50, 30:32, 20:26] = True
        >>> box_of([mask], np.diag([2.0, 5.0, 5.0, 1.0]))
        (slice(27, 60, None), slice(25, 37, None), slice(15, 31, None))
    """
    ends = []
    for mask in masks:
        around = ndimage.find_objects(mask.view(np.uint8))
        if not around:
            return None
        pieces, sizes = pieces_of(mask[around[0]])
        boxes = ndimage.find_objects(pieces)
        large = np.flatnonzero(sizes >= _LEAST_PIECE * sizes.max())
        ends += [_ends(boxes[number - 1], within=around[0]) for number in large]
    if not ends:
        return None
    margin = np.ceil(MARGIN_MM / spacing_of(affine)[: mask.ndim]).astype(int)
    first = np.maximum(np.min(ends, axis=0)[0] - margin, 0)
    last = np.minimum(np.max(ends, axis=0)[1] + margin, mask.shape)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(first, last, strict=True))


def _ends(box: Box, *, within: Box) -> tuple[list[int], list[int]]:
    """First voxels, and those behind the last."""
    pairs = list(zip(within, box, strict=True))
    return [outer.start + inner.start for outer, inner in pairs], [outer.start + inner.stop for outer, inner in pairs]


def box_found(found: Segmentation, wanted: Collection[str]) -> Box:
    """The box around the labels that are wanted; the whole volume where one of them was not found."""
    overlapping = found.labels.ndim > len(found.source.shape)
    masks = (
        found.labels[..., number] > 0 if overlapping else found.labels == number
        for number, name in found.label_names.items()
        if name in wanted
    )
    box = box_of(masks, found.affine)
    if box is not None:
        return box
    logger.warning("%s: at first sight not every label was found, so the whole volume is looked at.", found.source.path)
    return in_all(found.source)[0]


def in_all(volume: Volume) -> tuple[Box, Volume]:
    """The box around all of a volume, and the volume."""
    return tuple(slice(0, size) for size in volume.shape), volume


def within_box(
    volume: Volume,
    *,
    find: Callable[[Volume], Segmentation],
    look: Callable[[Volume], Segmentation],
    wanted: Collection[str],
    keep_voxels: bool,
) -> Segmentation:
    """Segment a volume within the box around what was found in it.

    Args:
        volume: the whole one.
        find: segments it coarsely.
        look: segments the box.
        wanted: names of the labels that the box is around.
        keep_voxels: leave the volume its voxels; else their memory is given back once the box is cut out.

    Returns:
        The result on the grid of the whole volume, background outside of the box.
    """
    found = find(volume)
    box = box_found(found, wanted)
    part = volume.cropped(box)
    if not keep_voxels:
        volume.let_voxels_go()
    return _placed(look(part), box, found)


def _placed(inner: Segmentation, box: Box, found: Segmentation) -> Segmentation:
    volume = found.source
    overlapping = inner.labels.ndim > len(volume.shape)
    background = 0 if overlapping else next(iter(inner.label_names))
    labels = np.full((*volume.shape, *inner.labels.shape[len(box) :]), background, inner.labels.dtype)
    labels[box] = inner.labels
    probabilities = entropy = None
    if inner.stored_probabilities is not None:
        count = len(inner.stored_probabilities)
        probabilities = np.zeros((count, *volume.shape), inner.stored_probabilities.dtype)
        if not overlapping:
            probabilities[0] = PROBABILITY_SCALE
        probabilities[(slice(None), *box)] = inner.stored_probabilities
    if inner.entropy is not None:
        entropy = np.zeros(volume.shape, inner.entropy.dtype)  # outside of the box nobody doubts
        entropy[box] = inner.entropy
    return replace(
        inner,
        labels=labels,
        affine=volume.affine,
        source=volume,
        stored_probabilities=probabilities,
        entropy=entropy,
        seconds={stage: spent + found.seconds[stage] for stage, spent in inner.seconds.items()},
    )
