"""A prediction of the target corrected by the source's anatomy and by the volume's own intensities."""

import torch
from torch import Tensor

from monai_transfer.adaptation.label_atlas import LabelAtlas
from monai_transfer.adaptation.label_refinement import refine_probabilities
from monai_transfer.transforms.intensity_profile import LEAST_VOXELS, dilated

_RIM = 2
"""Voxels outside a class that it is compared with: its borders, and little else."""

_BINS = 24
_RANGE = (0.01, 0.99)


def correct_by_anatomy(image: Tensor, probabilities: Tensor, atlas: LabelAtlas) -> Tensor:
    """Correct a prediction by place and intensity, at the place where both agree best.

    A network that knows how the organs lie finds that layout more than once in a body that is longer than any it has
    seen. Of the places where the atlas may lie, each corrects the prediction and the intensities refine it; the one is
    taken whose match times the :func:`separation` of the refined labels is greatest, for real organs end where the
    intensity changes. Where a class was lost, the first correction finds its core and a second the rest.

    Args:
        image: ``(channels, *spatial)``.
        probabilities: of the network, ``(classes, *spatial)``; class 0 is the background.
        atlas: of the source's labels, on the same working grid.

    Returns:
        Probabilities ``(classes, *spatial)``.
    """
    best, chosen, lying = -1.0, probabilities, None
    for place in atlas.places(probabilities):
        share = atlas.laid(place, probabilities.shape[1:]).to(probabilities)
        corrected = refine_probabilities(image, atlas.correct(probabilities, share))
        score = place.match * float(separation(image, corrected.argmax(0), len(corrected)).mean())
        if score > best:
            best, chosen, lying = score, corrected, share
    if lying is not None and len(atlas.lost(probabilities)):
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
    for number in range(1, classes):
        inside = label == number
        rim = dilated(inside, _RIM) & ~inside
        if min(int(inside.sum()), int(rim.sum())) >= LEAST_VOXELS:
            overlaps = [_overlap(channel[inside], channel[rim]) for channel in image.float()]
            found[number - 1] = 1 - sum(overlaps) / len(overlaps)
    return found


def _overlap(first: Tensor, second: Tensor) -> float:
    """Common area of the normalised histograms of two samples."""
    low, high = torch.quantile(torch.cat([first, second]), torch.tensor(_RANGE, device=first.device)).tolist()
    histograms = [
        torch.histc(values.clamp(low, high), _BINS, low, high).cpu() / len(values) for values in (first, second)
    ]
    return float(torch.minimum(*histograms).sum())
