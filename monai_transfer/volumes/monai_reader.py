"""The door for MONAI's transforms, so that training and validation see what every command sees: volumes and labels."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data.image_reader import ImageReader
from monai.transforms import LoadImaged, MapTransform
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from monai_transfer.errors import UserError
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


class LabelClassesd(MapTransform):
    """Gives each voxel of a label map the number of its class.

    Label maps may be stored as almost whole numbers and with gaps between their values: 17 and 2035 are classes 1 and 2
    of a network with three outputs.

    Args:
        keys: label maps ``(1, ...)``.
        values: the value of each class, background first; ``None`` where the values are the numbers.

    Raises:
        UserError: a label map holds a value that is none of them.

    Example:
        >>> label = torch.tensor([[0.0, 17.0, 2035.0]])
        >>> LabelClassesd("label", [0, 17, 2035])({"label": label})["label"]
        tensor([[0., 1., 2.]])
    """

    def __init__(self, keys: KeysCollection, values: Sequence[int] | None = None) -> None:
        super().__init__(keys)
        self.values = None if values is None else torch.tensor(sorted(values), dtype=torch.float64)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the label maps."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            label = changed[key].round()
            if self.values is not None:
                wide = torch.as_tensor(label, dtype=torch.float64).contiguous()
                classes = torch.searchsorted(self.values, wide).clamp(max=len(self.values) - 1)
                if not torch.equal(self.values[classes], wide):
                    odd = float(wide[self.values[classes] != wide][0])
                    raise UserError(
                        f"A label map holds the value {odd:g}, which no class has: run monai-transfer check."
                    )
                label = torch.zeros_like(label) + classes  # a MetaTensor keeps its affine
            changed[key] = label
        return changed
