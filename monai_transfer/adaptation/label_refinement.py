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
    blur: float = 0.7,
    coherence: float = 1.0,
    band: int = 3,
    outliers: float = 0.05,
) -> Tensor:
    r"""Combine a network's prediction with how each class looks in this very volume.

    A network that has never seen the target's labels knows where an organ lies better than where it ends: next to a
    tissue without a label it draws the border by shape. The interior that it is sure of tells the organ's intensity in
    this volume, and the intensity tells the border. One step of expectation maximisation with the prediction as the
    prior (Ashburner and Friston, *Unified segmentation*, NeuroImage 2005; Van Leemput et al., IEEE TMI 1999):

    .. math:: q_{vc} \propto \tilde p_{vc} \; P(x_v \mid c) \; e^{\mathtt{coherence} \, \bar p_{vc}}

    where :math:`\tilde p` is the prediction blurred by ``blur`` voxels, :math:`\bar p` its mean over the neighbours
    (blurred by one voxel), and :math:`P(x \mid c)` a Gaussian with the median and the scaled median absolute deviation
    of the voxels predicted to be :math:`c`, for the background the smoothed histogram of its voxels near the organs.
    A share ``outliers`` of every class may have any intensity. Channels are taken as independent.

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
        blur: standard deviation in voxels.
        coherence: weight of the neighbours.
        band: voxels around the predicted foreground within which labels may change.
        outliers: share in (0, 1).

    Returns:
        Probabilities ``(classes, *spatial)``.
    """
    label = probabilities.argmax(0)
    near = dilated(label > 0, band)
    if not bool(near.any()):
        return probabilities
    evidence = torch.zeros_like(probabilities)
    for channel in image.float():
        evidence += _log_likelihood(channel, probabilities, label, near, outliers)
    prior = _blurred(probabilities, blur).clamp(min=1e-6).log()
    neighbours = coherence * _blurred(probabilities, 1.0)
    return torch.where(near, (prior + evidence + neighbours).softmax(0), probabilities)


def _log_likelihood(image: Tensor, probabilities: Tensor, label: Tensor, near: Tensor, outliers: float) -> Tensor:
    values = image[near]
    sample = values[:: max(1, len(values) // _SAMPLES)]
    low, high = torch.quantile(sample, torch.tensor(_RANGE, device=image.device))
    bins = ((image - low) / (high - low).clamp(min=1e-6) * (_BINS - 1)).clamp(0, _BINS - 1)
    index = bins.round().long()
    tables = [_smoothed(torch.bincount(index[near], weights=probabilities[0][near], minlength=_BINS).to(bins))]
    for number in range(1, len(probabilities)):
        tables.append(_gaussian(bins[label == number]))
    table = torch.stack(tables)
    table = (1 - outliers) * table / table.sum(1, keepdim=True).clamp(min=1e-6) + outliers / _BINS
    return table.log()[:, index]


def _gaussian(values: Tensor) -> Tensor:
    """Of the bins; 0 where the class was not found."""
    if len(values) < LEAST_VOXELS:
        return values.new_zeros(_BINS)
    centre, deviation = robust_moments(values)
    bins = torch.arange(_BINS, device=values.device, dtype=values.dtype)
    return torch.exp(-0.5 * ((bins - centre) / deviation.clamp(min=0.02 * _BINS)).square())


def _smoothed(histogram: Tensor) -> Tensor:
    smooth: Tensor = GaussianFilter(1, 1.5).to(histogram)(histogram[None, None])[0, 0]
    return smooth


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    smooth: Tensor = GaussianFilter(maps.ndim - 1, sigma).to(maps)(maps[None])[0]
    return smooth
