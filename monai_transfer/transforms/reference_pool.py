"""Images of the target that lend their appearance."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import LoadImage
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.errors import UserError
from monai_transfer.volumes.monai_reader import VolumeReader
from monai_transfer.volumes.volume import Reading

_FOR_ITS_LOOKS = Reading(assume_affine=True, allow_irregular=True, pictures=True)
"""Only the intensities of a reference are lent, so that it need not say how it lies in space."""

Reference = str | Path | Tensor | np.ndarray | Mapping[str, Tensor]


class ReferencePool:
    """References of one appearance, read when first drawn and kept in memory.

    Args:
        references: files, images ``(channels, *spatial)`` preprocessed as the images that they lend to, or a MONAI data
            set of such images under ``"image"``, which is read one by one.
        load: turns a file into an image ``(channels, *spatial)``; by default it is read as every command
            reads it. Give the target's own preprocessing here.

    Raises:
        UserError: there are no references.

    Example:
        >>> pool = ReferencePool([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
        >>> pool.draw(np.random.RandomState(0)).shape
        torch.Size([1, 4, 4])
    """

    def __init__(self, references: Sequence[Reference], load: Callable[[Any], Any] | None = None) -> None:
        if len(references) == 0:
            raise UserError("no reference images were given: name at least one image of the target")
        self.references = references
        self.load = load or _door()
        self._images: dict[int, Tensor] = {}

    def draw(self, state: np.random.RandomState) -> Tensor:
        """A random reference ``(channels, *spatial)`` in float32.

        Raises:
            UserError: its file does not exist.
        """
        number = int(state.randint(len(self.references)))
        # kept once read: the same few volumes are drawn over and over
        if number not in self._images:
            self._images[number] = self._read(self.references[number])
        return self._images[number]

    def _read(self, reference: Reference) -> Tensor:
        if isinstance(reference, (str, Path)):
            if not Path(reference).exists():
                raise UserError(f"the reference image {reference} does not exist: correct the list of references")
            reference = self.load(str(reference))
        if isinstance(reference, Mapping):
            reference = reference[Keys.IMAGE]
        image: Tensor = convert_to_tensor(reference, track_meta=False, dtype=torch.float32)
        return image


def _door() -> LoadImage:
    load = LoadImage(ensure_channel_first=True)
    load.register(VolumeReader(_FOR_ITS_LOOKS))
    return load


def check_channels(image: Tensor, reference: Tensor) -> None:
    """Raise UserError unless both images ``(channels, *spatial)`` have as many channels and dimensions."""
    if image.ndim != reference.ndim or image.shape[0] != reference.shape[0]:
        raise UserError(
            f"an image of shape {tuple(image.shape)} cannot take the appearance of a reference of shape "
            f"{tuple(reference.shape)}: both need the same channels and dimensions"
        )
