"""A network's labels of a target volume, corrected by that volume's own intensities."""

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor

from monai_transfer.transforms.intensity_profile import LEAST_VOXELS, dilated, robust_moments

_BINS = 64
_RANGE = (0.005, 0.995)
_SAMPLES = 1_000_000


@torch.no_grad()
def refine_probabilities(
    image: Tensor,
    probabilities: Tensor,
    *,
    blur: float = 0.5,
    band: int = 5,
    outliers: float = 0.02,
) -> Tensor:
    r"""Combine a network's prediction with how each class looks in this very volume.

    A network that has never seen the target's labels knows where an organ lies better than where it ends: next to a
    tissue without a label it draws the border by shape. The interior that it is sure of tells the organ's intensity in
    this volume, and the intensity tells the border. One step of expectation maximisation with the prediction as the
    prior (Ashburner and Friston, *Unified segmentation*, NeuroImage 2005; Van Leemput et al., IEEE TMI 1999):

    .. math:: q_{vc} \propto \tilde p_{vc} \; \frac{P(x_v \mid c)}{P(x_v \mid \text{around } c)}

    where :math:`\tilde p` is the prediction blurred by ``blur`` voxels, little enough that a structure of two voxels'
    breadth stays, and :math:`P(x \mid c)` a Gaussian with the median and the scaled median absolute deviation
    of the voxels predicted to be :math:`c`. :math:`P(x \mid \text{around } c)` is the smoothed histogram of the
    background within ``band`` voxels of :math:`c`: what is bright near the liver tells nothing about the aorta. For the
    background the ratio is 1, and for a class of a few voxels too. A share ``outliers`` of every distribution may have
    any intensity. Channels are taken as independent.

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
        blur: standard deviation in voxels.
        band: voxels around a class that count as its surroundings; no label changes beyond them.
        outliers: share in (0, 1) of voxels whose intensity tells nothing.

    Returns:
        Probabilities ``(classes, *spatial)``.
    """
    label = probabilities.argmax(0)
    around = [dilated(label == number, band) for number in range(1, len(probabilities))]
    near = torch.stack(around).any(0)
    if not bool(near.any()):
        return probabilities
    # zero evidence leaves the prior alone: the background, and classes of too few voxels
    evidence = torch.zeros_like(probabilities)
    for channel in image.float():
        bins = _binned(channel, near)
        index = bins.round().long()
        for number, surroundings in enumerate(around, start=1):
            found = label == number
            if int(found.sum()) >= LEAST_VOXELS:
                inside = _mixed(_gaussian(bins[found]), outliers)
                outside = _mixed(_histogram(index[surroundings], probabilities[0][surroundings]), outliers)
                evidence[number] += (inside / outside).log()[index]
    prior = blurred(probabilities, blur).clamp(min=1e-6).log()
    return torch.where(near, (prior + evidence).softmax(0), probabilities)


def _binned(image: Tensor, near: Tensor) -> Tensor:
    """Intensities as places among the bins, which span those of the voxels that matter."""
    values = image[near]
    sample = values[:: max(1, len(values) // _SAMPLES)]
    low, high = torch.quantile(sample, torch.tensor(_RANGE, device=image.device))
    places: Tensor = (image - low) / (high - low).clamp(min=1e-6) * (_BINS - 1)
    return places.clamp(0, _BINS - 1)


def _mixed(table: Tensor, outliers: float) -> Tensor:
    """A distribution over the bins that holds every intensity possible."""
    return (1 - outliers) * table / table.sum().clamp(min=1e-6) + outliers / _BINS


def _gaussian(values: Tensor) -> Tensor:
    """Density at each bin of the normal distribution of these places, robust against what is not of the class."""
    centre, deviation = robust_moments(values)
    bins = torch.arange(_BINS, device=values.device, dtype=values.dtype)
    return torch.exp(-0.5 * ((bins - centre) / deviation.clamp(min=0.02 * _BINS)).square())


def _histogram(index: Tensor, weights: Tensor) -> Tensor:
    """Smoothed histogram of bins, ``(bins,)``."""
    counts = torch.bincount(index, weights=weights, minlength=_BINS).to(weights)
    smooth: Tensor = GaussianFilter(1, 1.5).to(counts)(counts[None, None])[0, 0]
    return smooth


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps ``(channels, *spatial)`` through a Gaussian of so many voxels."""
    smooth: Tensor = GaussianFilter(maps.ndim - 1, sigma).to(maps)(maps[None])[0]
    return smooth
