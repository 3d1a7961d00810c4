"""What the source's anatomy tells of the target: how bodies and sizes differ, and where no label can be."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from monai_transfer.adaptation.aligned_maps import box_around, some_label_maps
from monai_transfer.adaptation.label_atlas import LabelAtlas, Place
from monai_transfer.adaptation.lesions import stray_pieces
from monai_transfer.adaptation.refinement import refine_probabilities
from monai_transfer.transforms.target import LEAST_VOXELS, MAD_TO_SD, dilated, likeliest_class

_RIM = 2
"""Voxels outside a class that it is compared with: its borders, and little else."""

_RIM_BINS = 24

_RIM_RANGE = (0.01, 0.99)

_PLAUSIBLE = (0.625, 2.5)
"""Shares of the usual size that are plausible. Too small is the worse sign: a network that has lost a class finds a few
voxels of it in the wrong place, while one that draws a class too large still covers it."""

_VARIED = (0.1, 0.9)
"""Quantiles of the source's sizes that are plausible, where these are known to vary."""

_WEIGHT = 0.7
"""How much the place counts beside the network (:meth:`LabelAtlas.correct`)."""

_WEIGHTS = (_WEIGHT, 2 * _WEIGHT)
"""What is tried in a new scan. Where a network calls two tissues by one name, a little more or less decides of which of
them the intensities are measured."""

_LAYINGS = 2
"""How often the atlas is laid over a new scan. A third time gains next to nothing."""

_LEAST_SEEN = 0.4
"""Separation from its surroundings below which a class without a place of its own is imagined: lesions of multiple
sclerosis have 0.4 to 0.8, those of phantoms 0.7 to 0.9, and lesions that a network imagined 0.2 to 0.5."""

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


class ExpectedSizes:
    """Bounds of the classes' sizes, usually 0.625 and 2.5 times the median (:func:`size_bounds`).

    A class without a place of its own, a lesion, varies in size as well, and may be of any that the source has. One
    that goes on beyond the border of its map, an aorta, is longer where more is seen, and shorter where less is.

    Args:
        atlas: of the source's labels.
        labels: from which it was made, ``(1, *spatial)`` each.

    Example:
        >>> label = torch.zeros(1, 12, 12, dtype=torch.long)
        >>> label[0, 4:8, 4:8], label[0, :, 10] = 1, 2
        >>> sizes = ExpectedSizes(LabelAtlas([label] * 3, classes=3), [label] * 3)
        >>> sizes.bounds((12, 12))[:, 1:].tolist(), sizes.bounds((24, 12))[:, 2].tolist()
        ([[10.0, 7.5], [40.0, 30.0]], [7.5, 60.0])
    """

    def __init__(self, atlas: LabelAtlas, labels: Sequence[Tensor]) -> None:
        classes = 1 + len(atlas.usual)
        counts = torch.stack([torch.bincount(label.flatten().long(), minlength=classes) for label in labels]).float()
        varied = counts.masked_fill((counts == 0) | torch.cat([torch.ones(1).bool(), atlas.placed]), torch.nan)
        self._usual = size_bounds(torch.cat([torch.zeros(1), atlas.usual]), varied)
        self._lengths = torch.tensor([label.shape[1:] for label in labels]).float().median(0).values
        self._open = atlas.reach.isfinite().any(2)

    def bounds(self, shape: Sequence[int]) -> Tensor:
        """Least and greatest number of voxels of each class in a volume of this shape, ``(2, classes)``."""
        longer = torch.where(self._open, torch.tensor(shape) / self._lengths, 1.0).prod(1)
        factors = torch.stack([longer.clamp(max=1), longer.clamp(min=1)])
        return self._usual * torch.cat([torch.ones(2, 1), factors], 1)


@torch.no_grad()
def correct_by_anatomy(image: Tensor, probabilities: Tensor, atlas: LabelAtlas) -> Tensor:
    """Correct what a network that still learns predicts by place and intensity, and propose organs that it lost.

    A network that knows how the organs lie finds that layout more than once in a body that is longer than any it has
    seen. Of the places where the atlas may lie, each corrects the prediction and the intensities refine it; the one is
    taken whose match times the :func:`separation` of the refined labels is greatest, for real organs end where the
    intensity changes. Where a class was lost, the first correction finds its core and a second the rest. Where no class
    has a place of its own, the intensities alone correct.

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
        atlas: of the source's labels, on the same working grid.

    Returns:
        Probabilities ``(classes, *spatial)``.
    """
    if not bool(atlas.placed.any()):
        return refine_probabilities(image, probabilities)
    # an atlas that turned after the errors of a network that still learns could not correct them
    places = atlas.places(probabilities)
    chosen, lying = _best_correction(image, probabilities, atlas, places, weights=(_WEIGHT,), find_lost=True)
    if lying is not None and len(atlas.lost(probabilities)):
        chosen = refine_probabilities(image, atlas.correct(chosen, lying, weight=_WEIGHT))
    return _without_unseen(image, chosen, atlas)


@torch.no_grad()
def correct_new_scan(image: Tensor, probabilities: Tensor, atlas: LabelAtlas) -> Tensor:
    """Correct what a finished network predicts as :func:`correct_by_anatomy` does, but for what it may be trusted with.

    It is likelier that a body lacks an organ than that the network lost it: none is proposed. It is likelier, too, that
    a body is turned: the atlas may be turned as the labels are. How much the place counts is tried by two weights. Then
    the atlas is laid anew over the corrected labels and the prediction corrected once more, for where organs lie and
    where they end each tell the other (Ashburner and Friston, *Unified segmentation*, NeuroImage 2005). A lesion that
    lies as none of the source does is left out, which the first ones that a network finds may do. Arguments and result
    are of the same shapes.
    """
    if not bool(atlas.placed.any()):
        return refine_probabilities(image, probabilities)
    chosen, tried = probabilities, None
    for _ in range(_LAYINGS):
        places = atlas.places(chosen, turn=True)
        corners = [place.corner for place in places if place.turn is None]
        if len(corners) == len(places) and corners == tried:
            break
        chosen, _ = _best_correction(image, probabilities, atlas, places, weights=_WEIGHTS, find_lost=False)
        tried = corners
    return _without_unseen(image, _without_stray(chosen, atlas), atlas)


def _best_correction(
    image: Tensor,
    probabilities: Tensor,
    atlas: LabelAtlas,
    places: Sequence[Place],
    *,
    weights: Sequence[float],
    find_lost: bool,
) -> tuple[Tensor, Tensor | None]:
    """The prediction as the best of these places corrects it, and the atlas's shares there; without one as it is."""
    best, chosen, lying = -1.0, probabilities, None
    for place in places:
        if place.match <= best:  # the matches fall, and no separation is more than 1
            break
        share = atlas.laid(place, probabilities.shape[1:]).to(probabilities)
        for weight in weights:
            weighed = atlas.correct(probabilities, share, weight=weight, find_lost=find_lost)
            corrected = refine_probabilities(image, weighed)
            score = place.match * float(separation(image, likeliest_class(corrected), len(corrected)).mean())
            if score > best:
                best, chosen, lying = score, corrected, share
    return chosen, lying


def _without_unseen(image: Tensor, probabilities: Tensor, atlas: LabelAtlas) -> Tensor:
    """Probabilities without lesions that look like what they lie in: no place speaks for them, and nothing is seen."""
    if bool(atlas.placed.all()):
        return probabilities
    parted = separation(image, likeliest_class(probabilities), len(probabilities))
    unseen = (~atlas.placed & (parted < _LEAST_SEEN)).nonzero()[:, 0] + 1
    if not len(unseen):
        return probabilities
    return _summing_to_one(probabilities.index_fill(0, unseen.to(probabilities.device), 0.0))


def _without_stray(probabilities: Tensor, atlas: LabelAtlas) -> Tensor:
    """Probabilities without the lesions that lie as none of the source does."""
    if bool(atlas.placed.all()):
        return probabilities
    stray = stray_pieces(likeliest_class(probabilities), atlas.lesions, atlas.placed)
    return _summing_to_one(probabilities.masked_fill(stray, 0.0)) if bool(stray.any()) else probabilities


def _summing_to_one(probabilities: Tensor) -> Tensor:
    summed: Tensor = probabilities / probabilities.sum(0).clamp(min=1e-6)
    return summed


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
