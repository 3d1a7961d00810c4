"""The door as a MONAI reader, so that training and validation see what every command sees."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data.image_reader import ImageReader
from monai.transforms import LoadImaged
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume


class VolumeReader(ImageReader):
    """Reads what :func:`~monai_transfer.volumes.reading.read_volume` reads, for ``LoadImage`` and ``LoadImaged``.

    Args:
        reading: how strictly.

    Example:
        >>> from monai.transforms import LoadImage
        >>> load = LoadImage(ensure_channel_first=True)
        >>> load.register(VolumeReader())  # asked before MONAI's readers; what it refuses is passed to none of them
    """

    def __init__(self, reading: Reading = Reading()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.reading = reading

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """True: no file is left to a reader with other rules."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Volume:
        """Read one file, or one file per channel.

        Raises:
            VolumeError: a file is not a usable volume.
        """
        paths = [Path(name) for name in ensure_tuple(data)]
        return read_volume(paths[0] if len(paths) == 1 else paths, reading=self.reading)

    def get_data(self, img: Volume) -> tuple[NDArray[Any], dict[str, Any]]:
        """Voxels as MONAI's own readers give them, without a channel axis or with it last, and their metadata."""
        return img.array[0] if len(img.array) == 1 else np.moveaxis(img.array, 0, -1), img.meta


def load_volumes(keys: Sequence[str], *, reading: Reading = Reading()) -> LoadImaged:  # noqa: B008 (frozen)
    """``LoadImaged`` through the door, channels first.

    A reader that is *given* to ``LoadImaged`` is only tried first: what it refuses goes on to MONAI's readers. One that
    is registered is chosen by its suffixes, and its errors are the last word.
    """
    load = LoadImaged(keys=keys, ensure_channel_first=True)
    load.register(VolumeReader(reading))
    return load
