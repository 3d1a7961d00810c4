"""What may lie anywhere, as lesions do: how those of the source lie, and which of a prediction lie as none of them."""

from collections.abc import Iterator, Sequence

import torch
from scipy import ndimage
from torch import Tensor

from monai_transfer.datasets.label_values import pieces_of
from monai_transfer.transforms.target import LEAST_VOXELS, dilated

_FEW = 0.1
"""Quantile of the source's pieces that stands for the least: one that was drawn carelessly decides nothing."""

_LESS_ENCLOSED = 0.1
"""How much less of a piece's rim may be of what such pieces lie in; a border drawn a voxel off changes as much."""

_SMALLER = 0.125
"""Share of the least size, half of its diameter, below which a piece is like none that was ever shown."""


def lesion_habits(labels: Sequence[Tensor], placed: Tensor) -> Tensor:
    """How the pieces of each class without a place of its own lie in label maps, ``(classes - 1, 3)``.

    The organ that most of their rims are of, the least share of a rim that is of it, and the least size in voxels; the
    lowest tenth of the pieces is left out. No organ, and no share, where they touch none; zeros for the classes that
    have a place, and for those that never occur.

    Args:
        labels: ``(1, *spatial)`` each.
        placed: whether each class has a place of its own, ``(classes - 1,)``.

    Example:
        >>> label = torch.ones(1, 12, 12, dtype=torch.long)
        >>> label[0, 5:8, 5:8] = 2
        >>> lesion_habits([label], torch.tensor([True, False])).tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 9.0]]
    """
    classes = len(placed) + 1
    habits = torch.zeros(len(placed), 3)
    for number in (~placed).nonzero()[:, 0].tolist():
        pieces = [piece for label in labels for piece in _pieces(label[0], number + 1, classes)]
        # of a few voxels the rim says little
        rims = [rim for _, inside, rim in pieces if inside.sum() >= LEAST_VOXELS] or [rim for *_, rim in pieces]
        if rims:
            shares, sizes = torch.stack(rims), torch.stack([inside.sum() for _, inside, _ in pieces]).float()
            organs = shares.mean(0)
            organs[[0, number + 1]] = 0
            host = organs.argmax()
            least = shares[:, host].quantile(_FEW) * (host > 0)
            habits[number] = torch.stack([host, least, sizes.quantile(_FEW)])
    return habits


def stray_pieces(label: Tensor, habits: Tensor, placed: Tensor) -> Tensor:
    """Where a class without a place lies as none of the source does: in something else, or far smaller.

    Args:
        label: class numbers ``(*spatial)``.
        habits: :func:`lesion_habits`.
        placed: whether each class has a place of its own, ``(classes - 1,)``.

    Returns:
        ``(classes, *spatial)``, boolean.
    """
    classes = len(placed) + 1
    stray = torch.zeros((classes, *label.shape), dtype=torch.bool)
    for number in (~placed).nonzero()[:, 0].tolist():
        host, least, size = habits[number].tolist()
        for box, inside, rim in _pieces(label, number + 1, classes):
            if rim[int(host)] < least - _LESS_ENCLOSED or inside.sum() < _SMALLER * size:
                stray[(number + 1, *box)] |= inside
    return stray.to(label.device)


def _pieces(label: Tensor, number: int, classes: int) -> Iterator[tuple[tuple[slice, ...], Tensor, Tensor]]:
    """Of each piece the box around it and its rim, the piece in it, and what share of the rim is of each class."""
    values = label.long().cpu()
    numbered, _ = pieces_of((values == number).numpy())
    for piece, tight in enumerate(ndimage.find_objects(numbered), 1):
        box = tuple(slice(max(0, edge.start - 1), edge.stop + 1) for edge in tight)
        inside = torch.from_numpy(numbered[box] == piece)
        counts = torch.bincount(values[box][dilated(inside, 1) & ~inside], minlength=classes)
        yield box, inside, counts / counts.sum().clamp(min=1)
