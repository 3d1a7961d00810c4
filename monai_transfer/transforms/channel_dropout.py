"""Taking channels of an image away in training, so that a network works without them."""

import numpy as np
from monai.config import KeysCollection
from numpy.typing import NDArray
from torch import Tensor

from monai_transfer.transforms.random_intensity import RandIntensity, RandIntensityMap


class RandChannelDropout(RandIntensity):
    """Takes away some channels of an image, from one to all but one; how many and which is drawn evenly.

    An image of a single channel stays as it is. This has to be the last of the transforms: noise on an absent channel
    would be seen in training alone.

    Neverova et al., "ModDrop: adaptive multi-modal gesture recognition", TPAMI 2016.

    Args:
        prob: share of the images that lose channels.
        fill: what an absent channel consists of: what the normalisation makes of an image of a single value.

    Example:
        >>> import torch
        >>> image = torch.ones(3, 4, 4)
        >>> changed = RandChannelDropout(prob=1.0).set_random_state(0)(image)
        >>> 0 < int((changed.flatten(1).sum(1) == 0).sum()) < 3
        True
    """

    def __init__(self, prob: float = 0.25, *, fill: float = 0.0) -> None:
        super().__init__(prob)
        self.fill = fill
        self.absent: NDArray[np.intp] = np.zeros(0, np.intp)

    def draw(self, image: Tensor) -> None:
        """Draw how many channels are absent, and which."""
        channels = len(image)
        count = int(self.R.randint(1, channels)) if channels > 1 else 0
        self.absent = self.R.permutation(channels)[:count]

    def apply(self, image: Tensor) -> Tensor:
        """Fill the absent channels."""
        changed = image.clone()
        changed[self.absent.tolist()] = self.fill
        return changed


class RandChannelDropoutd(RandIntensityMap):
    """Dictionary version of :class:`RandChannelDropout`; all keys lose the same channels.

    Example:
        >>> import torch
        >>> drop = RandChannelDropoutd("image", prob=1.0, fill=-1.0).set_random_state(0)
        >>> drop({"image": torch.ones(2, 2)})["image"].tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.25, *, fill: float = 0.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, RandChannelDropout(1.0, fill=fill), prob, allow_missing_keys)
