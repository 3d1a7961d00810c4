"""Predictions of a whole volume, corrected by where labels lie beside each other and by this volume's intensities.

A bundle that was adapted keeps an atlas of the labels it learnt from. What its network draws in a volume of another
contrast is laid over that atlas, and the borders are drawn by the intensities of the very volume
(:func:`~monai_transfer.adaptation.correct_new_scan`). That needs the probabilities of all voxels of the working grid
at once, which otherwise never exist together.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from monai_transfer.machine import MOST_CORRECTED

if TYPE_CHECKING:
    from monai_transfer.adaptation import LabelAtlas

_BYTES_EACH = 32
"""Memory for each of them: as they are, blurred, as logarithms, as evidence, and as they become, twice."""


def is_corrected(atlas: "LabelAtlas | None", classes: int, shape: Sequence[int]) -> bool:
    """Whether the labels of a volume of the working grid's ``shape`` are corrected."""
    return atlas is not None and atlas.share.ndim == 1 + len(shape) and classes * math.prod(shape) <= MOST_CORRECTED


def bytes_corrected(classes: int, shape: Sequence[int]) -> int:
    """Memory that correcting a volume of the working grid's ``shape`` takes."""
    return _BYTES_EACH * min(classes * math.prod(shape), MOST_CORRECTED)


def corrected(image: Tensor, probabilities: Tensor, atlas: "LabelAtlas") -> Tensor:
    """Probabilities ``(classes, *spatial)`` of an image ``(channels, *spatial)``, corrected.

    A label of which the network finds next to nothing stays as it is: a body may lack the organ.
    """
    from monai_transfer.adaptation import correct_new_scan, without_bias  # here: few bundles have an atlas

    flat, probabilities = without_bias(image.float(), probabilities), probabilities.float()
    return correct_new_scan(flat, probabilities, atlas)


def corrected_slices(slices: Tensor, image: Tensor, atlas: "LabelAtlas", *, order: Sequence[int]) -> Tensor:
    """The same of all slices in streaming order, (slices, C, rows, columns).

    Args:
        slices: probabilities.
        image: of the same grid, (channels, *working shape).
        atlas: of the labels.
        order: the working axes of slices, rows and columns.
    """
    flat = image.ndim == 3
    straight = slices.transpose(0, 1).permute(0, *(1 + order.index(axis) for axis in range(3)))
    result = corrected(image, straight[..., 0] if flat else straight, atlas)
    result = result[..., None] if flat else result
    return result.permute(0, *(1 + axis for axis in order)).transpose(0, 1)


def corrected_logits(image: Tensor, logits: Tensor, atlas: "LabelAtlas | None") -> Tensor:
    """Logits ``(1, classes, *spatial)`` of the corrected probabilities of an image ``(1, channels, *spatial)``."""
    if not is_corrected(atlas, logits.shape[1], image.shape[2:]):
        return logits
    assert atlas is not None
    return corrected(image[0], logits[0].float().softmax(0), atlas)[None].clamp(min=1e-9).log()
