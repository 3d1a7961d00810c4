"""Predictions of a whole volume, corrected by where labels lie beside each other and by this volume's intensities.

A bundle that was adapted keeps an atlas of the labels it learnt from. What its network draws in a volume of another
contrast is laid over that atlas, and the borders are drawn by the intensities of the very volume
(:func:`~monai_transfer.adaptation.correct_new_scan`). That needs the probabilities of all voxels of the working grid
at once, which otherwise never exist together.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from monai_transfer.machine import MOST_CORRECTED
from monai_transfer.transforms.presets import clip_to_foreground, standardise_foreground
from monai_transfer.transforms.target import intensity_range, likeliest_class

if TYPE_CHECKING:
    from monai_transfer.adaptation import LabelAtlas

Look = Callable[[Tensor], Tensor]
"""What gives the probabilities of another image of the same grid."""

_STRONG = 0.2
"""Standard deviation of a field's logarithm within the labels from which on the network looks at the volume without it
too: 0.24 to 0.32 beside a coil, up to 0.13 on T1 and T2 of newborns, where that look gains nothing."""

_BYTES_EACH = 40
"""Memory for each of them: as they are, and without a field; blurred, as logarithms, as evidence; and as they become,
three times."""


def is_corrected(atlas: "LabelAtlas | None", classes: int, shape: Sequence[int]) -> bool:
    """Whether the labels of a volume of the working grid's ``shape`` are corrected."""
    return atlas is not None and atlas.share.ndim == 1 + len(shape) and classes * math.prod(shape) <= MOST_CORRECTED


def bytes_corrected(classes: int, shape: Sequence[int]) -> int:
    """Memory that correcting a volume of the working grid's ``shape`` takes."""
    return _BYTES_EACH * min(classes * math.prod(shape), MOST_CORRECTED)


def corrected(image: Tensor, probabilities: Tensor, atlas: "LabelAtlas", look: Look) -> Tensor:
    """Probabilities ``(classes, *spatial)`` of an image ``(channels, *spatial)``, corrected.

    A label of which the network finds next to nothing stays as it is: a body may lack the organ. Beside a surface coil
    a network that never learnt such a field is lost. So it sees the image without a strong one as well, and where the
    labels of that look match the atlas better and are parted better from what surrounds them, the mean of both looks is
    corrected: a network that learnt the field does worse without it.

    Args:
        image: on the working grid.
        probabilities: of the network.
        atlas: of the labels.
        look: what gives those of the same image without a field.
    """
    from monai_transfer.adaptation import correct_new_scan, without_bias  # here: few bundles have an atlas

    image, probabilities = image.float(), probabilities.float()
    even = without_bias(image, probabilities)
    result = correct_new_scan(even, probabilities, atlas)
    label = likeliest_class(result)
    if _strength(image, even, label > 0) < _STRONG:
        return result
    even = without_bias(image, result)  # by better labels a better field
    again = look(_standardised_as(image, even)).float()
    renewed = correct_new_scan(even, again, atlas)
    if _score(even, renewed, atlas) <= _score(even, result, atlas):
        return result
    return correct_new_scan(even, (probabilities + again) / 2, atlas)


def _score(image: Tensor, probabilities: Tensor, atlas: "LabelAtlas") -> float:
    """Match times separation, by which places of the atlas are chosen too; 0 without a label."""
    from monai_transfer.adaptation import separation

    match = max((place.match for place in atlas.places(probabilities)), default=0.0)
    return match * float(separation(image, likeliest_class(probabilities), len(probabilities)).mean())


def _standardised_as(image: Tensor, even: Tensor) -> Tensor:
    """The second image with the first's mean and deviation of each channel's foreground, which the network expects."""
    tissue = [seen[seen >= seen.mean()] for seen in image]
    channels = zip(standardise_foreground(clip_to_foreground(even)), tissue, strict=True)
    return torch.stack([channel * seen.std(correction=0) + seen.mean() for channel, seen in channels])


def _strength(image: Tensor, even: Tensor, labelled: Tensor) -> float:
    """Standard deviation of the logarithm of the field that the second image lacks, in its strongest channel."""
    found = [0.0]
    for seen, flat, air in zip(image, even, intensity_range(image.flatten(1))[0], strict=True):
        tissue = labelled & (torch.minimum(seen, flat) > air)  # a field leaves air alone
        if bool(tissue.any()):
            found.append(float(((seen[tissue] - air) / (flat[tissue] - air)).log().std(correction=0)))
    return max(found)


def corrected_slices(slices: Tensor, image: Tensor, atlas: "LabelAtlas", *, order: Sequence[int], look: Look) -> Tensor:
    """The same of all slices in streaming order, (slices, C, rows, columns).

    Args:
        slices: probabilities.
        image: of the same grid, (channels, *working shape).
        atlas: of the labels.
        order: the working axes of slices, rows and columns.
        look: what gives the slices of another image.
    """
    flat = image.ndim == 3

    def straight(slices: Tensor) -> Tensor:
        volume = slices.transpose(0, 1).permute(0, *(1 + order.index(axis) for axis in range(3)))
        return volume[..., 0] if flat else volume

    result = corrected(image, straight(slices), atlas, lambda even: straight(look(even)))
    result = result[..., None] if flat else result
    return result.permute(0, *(1 + axis for axis in order)).transpose(0, 1)


def corrected_logits(
    image: Tensor, logits: Tensor, atlas: "LabelAtlas | None", predict: Callable[[Tensor], Tensor]
) -> Tensor:
    """Logits ``(1, classes, *spatial)`` of the corrected probabilities of an image ``(1, channels, *spatial)``.

    Args:
        image: on the working grid.
        logits: of the network.
        atlas: of the labels; ``None`` corrects nothing.
        predict: what gives the logits of another image.
    """
    if not is_corrected(atlas, logits.shape[1], image.shape[2:]):
        return logits
    assert atlas is not None

    def look(even: Tensor) -> Tensor:
        return predict(even[None])[0].float().softmax(0)

    return corrected(image[0], logits[0].float().softmax(0), atlas, look)[None].clamp(min=1e-9).log()
