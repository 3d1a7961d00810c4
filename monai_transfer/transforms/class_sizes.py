"""How large a class may be, beside the sizes that it has in the source."""

import torch
from torch import Tensor

_PLAUSIBLE = (0.625, 2.5)
"""Shares of the usual size that are plausible. Too small is the worse sign: a network that has lost a class finds a few
voxels of it in the wrong place, while one that draws a class too large still covers it."""

_VARIED = (0.1, 0.9)
"""Quantiles of the source's sizes that are plausible, where these are known to vary."""


def size_bounds(usual: Tensor, varied: Tensor | None = None) -> Tensor:
    """Least and greatest plausible size of each class, ``(2, classes)``: 0.625 and 2.5 times the usual one.

    Any size of a class of usual size 0, which is not known, is plausible.

    Args:
        usual: size of each class, ``(classes,)``, in any unit.
        varied: sizes of a case per row, ``(cases, classes)``, NaN where a class is absent or not known to vary; from
            the 10th to the 90th percentile they are plausible too.
    """
    known = usual > 0
    bounds = torch.stack([_PLAUSIBLE[0] * usual, torch.where(known, _PLAUSIBLE[1] * usual, torch.inf)])
    if varied is not None:
        low, high = (torch.nanquantile(varied, quantile, dim=0) for quantile in _VARIED)
        bounds = torch.stack([torch.fmin(bounds[0], low), torch.fmax(bounds[1], high)])
    return bounds


def plausible(label: Tensor, bounds: Tensor) -> Tensor:
    """Which classes have a number of voxels within their bounds, ``(classes,)``.

    Args:
        label: of any shape.
        bounds: :func:`size_bounds` in voxels.
    """
    return plausible_sizes(torch.bincount(label.flatten().cpu(), minlength=bounds.shape[1]), bounds)


def plausible_sizes(found: Tensor, bounds: Tensor) -> Tensor:
    """The same for sizes that were found, ``(classes,)``, in the unit of the bounds."""
    return (found >= bounds[0]) & (found <= bounds[1])
