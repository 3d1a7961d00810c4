"""Histogram matching to the target."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from skimage.exposure import match_histograms
from torch import Tensor

from monai_transfer.transforms.random_intensity import RandIntensity, RandIntensityMap
from monai_transfer.transforms.reference_pool import Reference, ReferencePool, check_channels


class RandHistogramMatch(RandIntensity):
    """Gives the image, channel by channel, the histogram of a random target image (scikit-image).

    The map is monotone: it mends contrast and brightness between scanners, but cannot make T2 of T1.

    Args:
        references: target images, preprocessed as the source's (see :class:`ReferencePool`); any size.
        prob: probability to act.
        load: turns a file into an image ``(channels, *spatial)``.

    Example:
        >>> target = torch.tensor([[[10.0, 20.0], [30.0, 40.0]]])
        >>> RandHistogramMatch([target], prob=1.0)(torch.tensor([[[0.4, 0.3], [0.2, 0.1]]])).tolist()
        [[[40.0, 30.0], [20.0, 10.0]]]
    """

    def __init__(
        self, references: Sequence[Reference], prob: float = 0.5, *, load: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(prob)
        self.pool = ReferencePool(references, load)
        self.reference = torch.zeros(0)

    def draw(self, image: Tensor) -> None:
        """Draw the reference."""
        self.reference = self.pool.draw(self.R)

    def apply(self, image: Tensor) -> Tensor:
        """Match every channel."""
        check_channels(image, self.reference)
        matched = match_histograms(image.cpu().numpy(), self.reference.cpu().numpy(), channel_axis=0)
        return torch.as_tensor(matched, dtype=image.dtype, device=image.device)


class RandHistogramMatchd(RandIntensityMap):
    """Dictionary version of :class:`RandHistogramMatch`; all keys share the reference.

    Example:
        >>> data = {"t1": torch.rand(1, 8, 8), "t2": torch.rand(1, 8, 8)}
        >>> changed = RandHistogramMatchd(["t1", "t2"], [torch.rand(1, 6, 6)], prob=1.0).set_random_state(0)(data)
        >>> {key: tuple(image.shape) for key, image in changed.items()}
        {'t1': (1, 8, 8), 't2': (1, 8, 8)}
    """

    def __init__(
        self,
        keys: KeysCollection,
        references: Sequence[Reference],
        prob: float = 0.5,
        *,
        load: Callable[[Any], Any] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandHistogramMatch(references, 1.0, load=load), prob, allow_missing_keys)
