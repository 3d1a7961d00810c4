"""A network over a whole preprocessed image, for what needs the logits of all its voxels at once."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from monai_transfer.bundle.reading import WindowSettings

Judge = Callable[[Tensor, Callable[[Tensor], Tensor], Mapping[int, str]], dict[str, Any]]
"""Says something of a case: from the preprocessed image (C, *working shape), what gives the logits of whole images
(1, C, *working shape), and the names of the labels by class."""

_OVERLAP = 0.25


def over_whole_image(network: Callable[[Tensor], Tensor], window: WindowSettings) -> Callable[[Tensor], Tensor]:
    """What gives logits ``(1, classes, *spatial)`` for an image ``(1, channels, *spatial)``, window by window.

    Args:
        network: from windows to logits.
        window: the bundle's; its overlap is not used, for a quarter is enough to compare label maps.
    """
    roi = [size if size > 0 else None for size in window.roi_size]
    inferer = SlidingWindowInferer(roi, overlap=_OVERLAP, mode="gaussian", padding_mode="replicate")

    def predict(image: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = inferer(image, network)
        return logits

    return predict
