"""How much bodies differ in build, measured on the source's label maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_transfer.adaptation.label_maps import some_label_maps
from monai_transfer.transforms.intensity_profile import LEAST_VOXELS, MAD_TO_SD

_FEWEST = 3
"""Cases without which there is no deviation to speak of."""


def stretch_by_builds(labelled: Sequence[Mapping[str, Any]], *, factor: float = 2.0, most: float = 0.3) -> float:
    r"""How far to stretch source bodies at random, so that a network expects bodies of the target's builds.

    A uniform factor between :math:`1 - s` and :math:`1 + s` varies as much as the cases do, whose lengths have the
    relative deviation :math:`\sigma`, when :math:`s = \sqrt 3 \, \sigma`; the target may hold a little more. What
    varies much in the source may be stretched much; infants' brains laid on one atlas may not, and lose their small
    structures when they are.

    Args:
        labelled: ``{"label": (1, *spatial)}`` of the source, on one grid.
        factor: stretch for a relative deviation of 1.
        most: greatest stretch.

    Returns:
        Half of the range of the random factors; 0 where there are fewer than three cases.

    Example:
        >>> cases = []
        >>> for length in (8, 9, 10, 11, 12):
        ...     label = torch.zeros(1, 20, 20)
        ...     label[0, :length, :10] = 1
        ...     cases.append({"label": label})
        >>> round(stretch_by_builds(cases), 2)  # along the first axis only, where the deviation is 16 %
        0.16
    """
    maps = [label[0].long() for label in some_label_maps(labelled)]
    if len(maps) < _FEWEST:
        return 0.0
    classes = max(int(label.max()) for label in maps)
    lengths = torch.stack([_log_lengths(label, classes) for label in maps])
    deviation = MAD_TO_SD * (lengths - lengths.nanmedian(0).values).abs().nanmedian(0).values
    measured = deviation[lengths.isfinite().sum(0) >= _FEWEST]
    return min(most, factor * float(measured.mean())) if len(measured) else 0.0


def _log_lengths(label: Tensor, classes: int) -> Tensor:
    """Logarithm of each class's spread along each axis, ``(classes, dimensions)``; NaN without the class."""
    nothing = torch.full((label.ndim,), torch.nan)
    places = [(label == number).nonzero().float() for number in range(1, classes + 1)]
    return torch.stack([at.std(0).log() if len(at) >= LEAST_VOXELS else nothing for at in places])
