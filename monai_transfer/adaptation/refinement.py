"""What a volume's own intensities tell of labels that a network drew in it: the field of a coil, and the borders."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor
from torch.nn.functional import one_hot

from monai_transfer.adaptation.aligned_maps import blurred, box_around
from monai_transfer.transforms.target import LEAST_VOXELS, dilated, intensity_range, likeliest_class, robust_moments

_BINS = 64
_RANGE = (0.005, 0.995)
_SAMPLES = 1_000_000

_ROUNDS = 5
"""Of fitting a field, and of finding by how much classes are likelier."""

_SHARES = torch.linspace(0.525, 0.975, 10)
"""Shares of an organ in a voxel of its border that still counts as the organ."""

_EXPONENTS = (1.0, 0.8, 0.65, 0.5)
"""What a network's confidence may be worth: all that it says, down to half of its logits."""

_LEAST_GAIN = 0.002
"""Mean gain in log-likelihood that halving the logits needs; in noise alone, where nothing can be told, it is less."""

_COMMON = 0.05
"""Share of what is around a class that is taken to be as it is around all: deep in a labelled brain nothing else is."""

_DEGREE = 3
_LEAST_CONFIDENCE = 0.5
_LEAST_DEVIATION = 0.02
_VOXELS = 20_000

_RIDGE = 1e-3
"""Variance within the classes at which a term counts for half; places are from -1 to 1 along the longest extent."""

_LEAST_SHARE = 0.5
"""Share of the variance within the classes that a field must explain. By finished networks a polynomial explains 0.05
to 0.46 in abdominal MR and CT; over all looks of a training 0.56 to 0.82 in newborn T1, 0.83 to 0.95 beside a coil."""

_LEAST_LABELS = 2
"""Labels by which a network can tell a field: the voxels of one alone may be a neighbour's that was drawn as well."""


@torch.no_grad()
def without_bias(image: Tensor, probabilities: Tensor) -> Tensor:
    r"""The image without a smooth field of which its classes tell; the image as it is where they tell of none.

    A class has one intensity in all the volume, but for noise and for the field of the coils. So within the classes the
    logarithm of the intensity above air is a polynomial of the place (Van Leemput et al., *Automated model-based bias
    field correction of MR images of the brain*, IEEE TMI 1999):

    .. math:: \log x_v \approx \mu_{c(v)} + \sum_i \beta_i \, \phi_i(v)

    with terms of up to the third degree. They are fitted to all classes at once by least squares, reweighted so that
    voxels of another tissue count little (Geman and McClure, 1987). Beyond the labels the field stays as it is at
    their edge. It is divided out of a channel where it explains half of the variance within the classes: with less,
    what is taken for a field may be wrong labels. One label alone cannot tell these apart, and by it none is divided
    out (docs/results.md, "One label alone").

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of a network, ``(classes, *spatial)``; class 0 is the background.

    Returns:
        ``(channels, *spatial)``, the median labelled voxel as bright as before.

    Example:
        >>> x = torch.linspace(-1, 1, 24)[:, None].expand(24, 24)
        >>> organ = (x.abs() < 0.8).float()
        >>> left, right = organ * (torch.arange(24) < 12), organ * (torch.arange(24) >= 12)
        >>> image = (1 + 4 * left + 2 * right) * (0.8 * x).exp()
        >>> flat = without_bias(image[None], torch.stack([1 - organ, left, right]))[0][left > 0]
        >>> bool(flat.std() < 0.02 * flat.mean()), bool(image[left > 0].std() < 0.3 * image[left > 0].mean())
        (True, False)
    """
    if len(probabilities) - 1 < _LEAST_LABELS:
        return image
    confidence, label = probabilities.max(0)
    at = ((label > 0) & (confidence > _LEAST_CONFIDENCE)).nonzero()
    if len(at) < LEAST_VOXELS:
        return image
    low, high = at.amin(0), at.amax(0)
    centre, half = (low + high) / 2, max(1.0, float((high - low).max()) / 2)
    at = at[:: -(-len(at) // _VOXELS)]
    found = torch.stack([*_terms([*((at - centre) / half).T])], 1)
    axes = [
        ((torch.arange(size).to(at).clamp(first, last) - middle) / half).view([-1, *[1] * (label.ndim - 1 - axis)])
        for axis, (size, first, last, middle) in enumerate(zip(label.shape, low, high, centre, strict=True))
    ]
    classes, channels = label[tuple(at.T)], []
    airs, _ = intensity_range(image.flatten(1).float())
    for channel, air in zip(image, airs.to(image), strict=True):
        values = channel[tuple(at.T)]
        above = values > air
        weights = _field((values[above] - air).log(), found[above], classes[above])
        if weights is None:
            channels.append(channel)
        else:
            seen = found @ weights
            field = sum(weight * term for weight, term in zip(weights, _terms(axes), strict=True))
            field = field.clamp(seen.min(), seen.max()) - seen.median()
            channels.append(air + (channel - air) * (-field).exp())
    return torch.stack(channels)


def _terms(places: Sequence[Tensor]) -> Iterator[Tensor]:
    """Products of one to three coordinates, of voxels ``(n,)`` each or of a grid's axes that broadcast."""
    for degree in range(1, _DEGREE + 1):
        for chosen in combinations_with_replacement(places, degree):
            yield math.prod(chosen[1:], start=chosen[0])


def _field(logs: Tensor, terms: Tensor, classes: Tensor) -> Tensor | None:
    """Weights of the terms ``(voxels, terms)``; ``None`` where they explain too little of the variance."""
    if len(logs) < LEAST_VOXELS:
        return None
    y, x = logs.double(), terms.double()
    members = one_hot(classes).to(x)
    weights, ridge = _trust(y, classes), _RIDGE * torch.eye(x.shape[1]).to(x)
    solved, share = torch.zeros_like(x[0]), 0.0
    for _ in range(_ROUNDS):
        weights = weights / weights.sum()
        heavy = members * weights[:, None]
        within = [each - members @ (heavy.T @ each / heavy.sum(0).clamp(min=1e-9)[:, None]) for each in (x, y[:, None])]
        terms, values = within[0], within[1][:, 0]
        solved = torch.linalg.solve((weights[:, None] * terms).T @ terms + ridge, terms.T @ (weights * values))
        rest = values - terms @ solved
        share = 1 - float((weights * rest.square()).sum() / (weights * values.square()).sum().clamp(min=1e-12))
        weights = _trust(rest, classes)
    return solved.to(logs) if share >= _LEAST_SHARE else None


def _trust(rest: Tensor, classes: Tensor) -> Tensor:
    """Weights of voxels of which so much is not explained: little where they are likely to be of another tissue."""
    weights = torch.ones_like(rest)
    for number in torch.bincount(classes).nonzero()[:, 0]:
        of_it = classes == number
        centre, deviation = robust_moments(rest[of_it])
        deviation = deviation.clamp(min=_LEAST_DEVIATION)
        weights[of_it] = 1 / (deviation * (1 + ((rest[of_it] - centre) / (2 * deviation)).square())).square()
    return weights


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

    where :math:`\tilde p` is the prediction blurred by ``blur`` voxels, each class by as much likelier as leaves it its
    size: a thin one would be blurred away. A network is surer of a foreign modality than it is right: of the exponents
    :math:`\lambda` from 1 to a half the one is taken under which the intensities are likeliest, so that it is trusted
    less where they contradict it. :math:`P(x \mid c)` is a Gaussian with the median and the scaled median absolute
    deviation of the voxels labelled :math:`c` so far. A share ``mixed`` of an organ's voxels lies at its border and
    holds half to all of it, the rest of what is around it (Santago and Gage, IEEE TMI 1993); without them it would lose
    its border. :math:`P(x \mid \text{around } c)` is the smoothed histogram of the background within ``band`` voxels of
    :math:`c`, for what is bright near the liver tells nothing about the aorta, and a little of all of it. The ratio is
    1 for the background, and for a class of a few voxels. A share ``outliers`` of every distribution may have any
    intensity. Channels are taken as independent.

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
    if not bool((label := likeliest_class(probabilities)).any()):
        return probabilities
    box = box_around(label > 0, band + math.ceil(4 * blur) + 1)  # as far as anything changes, and the blur reaches
    part = (slice(None), *box)
    around = torch.stack([dilated(label[box] == number, band) for number in range(1, len(probabilities))]).flatten(1)
    near = around.any(0).nonzero()[:, 0]  # what follows is of these voxels alone
    zones = [each.nonzero()[:, 0] for each in around.index_select(1, near)]
    found = probabilities[part], blurred(probabilities[part], blur).clamp(min=1e-6).log(), image[part].float()
    refined, prior, seen = (maps.flatten(1).index_select(1, near) for maps in found)
    prior = of_sizes(prior, torch.bincount(label[box].flatten()[near], minlength=len(prior)))
    totals = [(exponent * prior).logsumexp(0) for exponent in _EXPONENTS]
    binned = [(bins, bins.round().long()) for bins in map(_binned, seen)]
    for _ in range(rounds):
        evidence = _evidence(binned, refined, zones, outliers=outliers, mixed=mixed)
        refined = _likeliest(prior, totals, evidence)
    whole, inner = probabilities.clone(), probabilities[part].flatten(1)
    whole[part] = inner.index_copy(1, near, refined).reshape(whole[part].shape)
    return whole


def of_sizes(logs: Tensor, sizes: Tensor, *, most: float = math.inf) -> Tensor:
    """Logarithms ``(classes, *any)``, up to ``most`` more for each class, by which its size is as in ``(classes,)``."""
    flat = logs.flatten(1)
    near = flat[:, flat[1:].amax(0) >= flat[0] - 2 * most]  # all else is background with any of these numbers
    more = torch.zeros(len(logs), 1).to(logs)
    for _ in range(_ROUNDS):
        found = torch.bincount(likeliest_class(near + more), minlength=len(logs))
        found[0] += flat.shape[1] - near.shape[1]
        more = (more + ((sizes + LEAST_VOXELS) / (found + LEAST_VOXELS)).log()[:, None]).clamp(-most, most)
    return (flat + more).reshape(logs.shape)


def _likeliest(prior: Tensor, totals: Sequence[Tensor], evidence: Tensor) -> Tensor:
    """Probabilities ``(classes, voxels)`` by the prior, raised to the exponent under which the evidence is likeliest.

    ``prior`` is a logarithm, and ``totals`` that of its classes' sum, raised to each of the exponents.
    """
    best, likeliest = -math.inf, prior
    for exponent, total in zip(_EXPONENTS, totals, strict=True):
        weighed = exponent * prior + evidence
        gain = float((weighed.logsumexp(0) - total).mean()) - _LEAST_GAIN * (1 / exponent - 1)
        if gain > best:
            best, likeliest = gain, weighed
    return likeliest.softmax(0)


def _evidence(
    binned: Sequence[tuple[Tensor, Tensor]], refined: Tensor, zones: Sequence[Tensor], *, outliers: float, mixed: float
) -> Tensor:
    """Logarithm of how much likelier each voxel's intensity is in a class than around it, ``(classes, voxels)``.

    ``binned`` has for each channel the places of the intensities among the bins, and the numbers of these bins;
    ``zones`` for each class the numbers of the voxels in it and around it.
    """
    # zero evidence leaves the prior alone: the background, and classes of too few voxels
    evidence = torch.zeros_like(refined)
    label = likeliest_class(refined)
    common = [_COMMON * _normalized(_histogram(index, refined[0])) for _, index in binned]
    for number, here in enumerate(zones, start=1):
        found = here[label[here] == number]
        if len(found) >= LEAST_VOXELS:
            for (bins, index), usual in zip(binned, common, strict=True):
                rest = _histogram(index[here], refined[0][here]) + len(here) * usual
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
    return _histogram(places.round().long().flatten(), rest.expand(len(share), -1).flatten())


def _histogram(index: Tensor, weights: Tensor) -> Tensor:
    """Smoothed histogram of bins, ``(bins,)``."""
    counts = torch.bincount(index, weights=weights, minlength=_BINS).to(weights)
    smooth: Tensor = GaussianFilter(1, 1.5).to(counts)(counts[None, None])[0, 0]
    return smooth
