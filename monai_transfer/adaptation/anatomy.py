"""What the source's anatomy tells of the target: how bodies differ, and where a prediction cannot be right."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor

from monai_transfer.adaptation.aligned_maps import blurred, box_around, some_label_maps
from monai_transfer.adaptation.label_atlas import LabelAtlas
from monai_transfer.transforms.target import LEAST_VOXELS, MAD_TO_SD, dilated, likeliest_class, robust_moments

_BINS = 64
_RANGE = (0.005, 0.995)
_SAMPLES = 1_000_000

_SHARES = torch.linspace(0.525, 0.975, 10)
"""Shares of an organ in a voxel of its border that still counts as the organ."""

_EXPONENTS = (1.0, 0.8, 0.65, 0.5)
"""What a network's confidence may be worth: all that it says, down to half of its logits."""

_LEAST_GAIN = 0.002
"""Mean gain in log-likelihood that halving the logits needs; in noise alone, where nothing can be told, it is less."""

_RIM = 2
"""Voxels outside a class that it is compared with: its borders, and little else."""

_RIM_BINS = 24

_RIM_RANGE = (0.01, 0.99)

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


@torch.no_grad()
def correct_by_anatomy(image: Tensor, probabilities: Tensor, atlas: LabelAtlas, *, find_lost: bool = True) -> Tensor:
    """Correct a prediction by place and intensity, at the place where both agree best.

    A network that knows how the organs lie finds that layout more than once in a body that is longer than any it has
    seen. Of the places where the atlas may lie, each corrects the prediction and the intensities refine it; the one is
    taken whose match times the :func:`separation` of the refined labels is greatest, for real organs end where the
    intensity changes. Where a class was lost, the first correction finds its core and a second the rest. Where no class
    has a place of its own, the intensities alone correct.

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
        atlas: of the source's labels, on the same working grid.
        find_lost: whether to propose where a class lies of which the network finds next to nothing. A network that
            still learns loses organs that are there; of a finished one it is likelier that a body lacks them.

    Returns:
        Probabilities ``(classes, *spatial)``.
    """
    if not bool(atlas.placed.any()):
        return refine_probabilities(image, probabilities)
    best, chosen, lying = -1.0, probabilities, None
    for place in atlas.places(probabilities):
        if place.match <= best:  # the matches fall, and no separation is more than 1
            break
        share = atlas.laid(place, probabilities.shape[1:]).to(probabilities)
        corrected = refine_probabilities(image, atlas.correct(probabilities, share, find_lost=find_lost))
        score = place.match * float(separation(image, likeliest_class(corrected), len(corrected)).mean())
        if score > best:
            best, chosen, lying = score, corrected, share
    if find_lost and lying is not None and len(atlas.lost(probabilities)):
        chosen = refine_probabilities(image, atlas.correct(chosen, lying))
    return chosen


def separation(image: Tensor, label: Tensor, classes: int) -> Tensor:
    r"""How far the intensities of each class differ from those just outside it, in ``[0, 1]``.

    .. math:: s_c = 1 - \sum_b \min\big(h_c(b), h_{\partial c}(b)\big)

    with the normalised histograms :math:`h` of the class and of its rim; the mean over the channels. A class that is
    absent, or of a few voxels, has 0.

    Args:
        image: ``(channels, *spatial)``.
        label: class numbers ``(*spatial)``.
        classes: number of classes, background included.

    Returns:
        ``(classes - 1,)``.
    """
    found = torch.zeros(classes - 1)
    box = box_around(label > 0, _RIM)
    image, label = image[(slice(None), *box)], label[box]
    for number in range(1, classes):
        inside = label == number
        rim = dilated(inside, _RIM) & ~inside
        if min(int(inside.sum()), int(rim.sum())) >= LEAST_VOXELS:
            overlaps = [_overlap(channel[inside], channel[rim]) for channel in image.float()]
            found[number - 1] = 1 - sum(overlaps) / len(overlaps)
    return found


def _overlap(first: Tensor, second: Tensor) -> float:
    """Common area of the normalised histograms of two samples."""
    low, high = torch.quantile(torch.cat([first, second]), torch.tensor(_RIM_RANGE, device=first.device)).tolist()
    histograms = [
        torch.histc(values.clamp(low, high), _RIM_BINS, low, high).cpu() / len(values) for values in (first, second)
    ]
    return float(torch.minimum(*histograms).sum())


@torch.no_grad()
def refine_probabilities(
    image: Tensor,
    probabilities: Tensor,
    *,
    blur: float = 0.5,
    band: int = 5,
    outliers: float = 0.02,
    mixed: float = 0.25,
    rounds: int = 3,
) -> Tensor:
    r"""Combine a network's prediction with how each class looks in this very volume.

    A network that has never seen the target's labels knows where an organ lies better than where it ends: next to a
    tissue without a label it draws the border by shape. The interior that it is sure of tells the organ's intensity in
    this volume, and the intensity tells the border. Expectation maximisation with the prediction as the prior
    (Ashburner and Friston, *Unified segmentation*, NeuroImage 2005; Van Leemput et al., IEEE TMI 1999):

    .. math:: q_{vc} \propto \tilde p_{vc}^\lambda \; \frac{P(x_v \mid c)}{P(x_v \mid \text{around } c)}

    where :math:`\tilde p` is the prediction blurred by ``blur`` voxels, little enough that a structure of two voxels'
    breadth stays. A network is surer of a foreign modality than it is right: of the exponents :math:`\lambda` from 1 to
    a half the one is taken under which the volume's intensities are likeliest, so that a network is trusted less
    where they contradict it. :math:`P(x \mid c)` is a Gaussian with the median and the scaled median absolute deviation
    of the voxels labelled :math:`c` so far. A share ``mixed`` of an organ's voxels lies at its border and holds half
    to all of the organ, the rest of what is around it (Santago and Gage, IEEE TMI 1993); without them an organ would
    lose its border voxels. :math:`P(x \mid \text{around } c)` is the smoothed histogram of the
    background within ``band`` voxels of :math:`c`: what is bright near the liver tells nothing about the aorta. For the
    background the ratio is 1, and for a class of a few voxels too. A share ``outliers`` of every distribution may have
    any intensity. Channels are taken as independent.

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
        blur: standard deviation in voxels.
        band: voxels around a class that count as its surroundings; no label changes beyond them.
        outliers: share in (0, 1) of voxels whose intensity tells nothing.
        mixed: share in [0, 1) of an organ's voxels that hold something else as well.
        rounds: how often intensities are measured and labels drawn, at least once.

    Returns:
        Probabilities ``(classes, *spatial)``.
    """
    label = likeliest_class(probabilities)
    if not bool(label.any()):
        return probabilities
    box = box_around(label > 0, band + math.ceil(4 * blur) + 1)  # as far as anything changes, and the blur reaches
    part = (slice(None), *box)
    around = torch.stack([dilated(label[box] == number, band) for number in range(1, len(probabilities))])
    near = around.any(0)  # what follows is of these voxels alone
    around, refined = around[:, near], probabilities[part][:, near]
    prior = blurred(probabilities[part], blur)[:, near].clamp(min=1e-6).log()
    binned = [(bins, bins.round().long()) for bins in map(_binned, image[part][:, near].float())]
    for _ in range(rounds):
        evidence = _evidence(binned, refined, around, outliers=outliers, mixed=mixed)
        refined = (_likeliest_prior(prior, evidence) + evidence).softmax(0)
    whole = probabilities.clone()
    whole[part][:, near] = refined
    return whole


def _likeliest_prior(prior: Tensor, evidence: Tensor) -> Tensor:
    """Logarithm of the prior ``(classes, voxels)``, raised to the exponent under which the evidence is likeliest."""

    def gain(exponent: float) -> float:
        likelihood = ((exponent * prior).log_softmax(0) + evidence).logsumexp(0).mean()
        return float(likelihood) - _LEAST_GAIN * (1 / exponent - 1)

    return (max(_EXPONENTS, key=gain) * prior).log_softmax(0)


def _evidence(
    binned: Sequence[tuple[Tensor, Tensor]], refined: Tensor, around: Tensor, *, outliers: float, mixed: float
) -> Tensor:
    """Logarithm of how much likelier each voxel's intensity is in a class than around it, ``(classes, voxels)``.

    ``binned`` has for each channel the places of the intensities among the bins, and the numbers of these bins.
    """
    # zero evidence leaves the prior alone: the background, and classes of too few voxels
    evidence = torch.zeros_like(refined)
    label = likeliest_class(refined)
    for number, surroundings in enumerate(around, start=1):
        found = (label == number) & surroundings
        if int(found.sum()) >= LEAST_VOXELS:
            for bins, index in binned:
                rest = _histogram(index[surroundings], refined[0][surroundings])
                organ = _organ(bins[found], rest, mixed)
                evidence[number] += (_tolerant(organ, outliers) / _tolerant(rest, outliers)).log()[index]
    return evidence


def _binned(values: Tensor) -> Tensor:
    """Intensities as places among the bins, which span them."""
    sample = values[:: max(1, len(values) // _SAMPLES)]
    low, high = torch.quantile(sample, torch.tensor(_RANGE, device=values.device))
    places: Tensor = (values - low) / (high - low).clamp(min=1e-6) * (_BINS - 1)
    return places.clamp(0, _BINS - 1)


def _tolerant(table: Tensor, outliers: float) -> Tensor:
    """A distribution over the bins that holds every intensity possible."""
    return (1 - outliers) * _normalized(table) + outliers / _BINS


def _normalized(table: Tensor) -> Tensor:
    return table / table.sum().clamp(min=1e-6)


def _organ(values: Tensor, rest: Tensor, mixed: float) -> Tensor:
    """Distribution over the bins of an organ that has these places and lies in what has the histogram ``rest``."""
    centre, deviation = robust_moments(values)
    bins = torch.arange(_BINS, device=values.device, dtype=values.dtype)
    pure = torch.exp(-0.5 * ((bins - centre) / deviation.clamp(min=0.02 * _BINS)).square())
    return (1 - mixed) * _normalized(pure) + mixed * _normalized(_border(centre, rest))


def _border(centre: Tensor, rest: Tensor) -> Tensor:
    """Distribution of voxels that hold half to all of an organ of the intensity ``centre``, and ``rest`` beside it."""
    share = _SHARES.to(rest)[:, None]
    places = share * centre + (1 - share) * torch.arange(_BINS, device=rest.device, dtype=rest.dtype)
    weights = rest.expand(len(share), -1)
    return _smoothed(torch.bincount(places.round().long().flatten(), weights.flatten(), minlength=_BINS).to(rest))


def _histogram(index: Tensor, weights: Tensor) -> Tensor:
    """Smoothed histogram of bins, ``(bins,)``."""
    return _smoothed(torch.bincount(index, weights=weights, minlength=_BINS).to(weights))


def _smoothed(counts: Tensor) -> Tensor:
    smooth: Tensor = GaussianFilter(1, 1.5).to(counts)(counts[None, None])[0, 0]
    return smooth
