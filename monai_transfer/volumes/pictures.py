"""Photographs of radiographs and slides: PNG, JPEG and BMP as volumes of two axes."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from monai_transfer.volumes.guards import require_room
from monai_transfer.volumes.volume import Reading, Volume, VolumeError, damaged

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
"""File name endings of pictures, those that MONAI's ``PILReader`` takes too."""

_MOST_PIXELS = 100_000_000
"""A mammogram has 16 million pixels; a file that claims more than this is none."""

_LARGEST_RATIO = 20_000
"""Bytes that one byte of a picture can stand for: PNG packs by Deflate and predicts lines besides."""

_PLAIN = ("1", "L", "RGB", "I", "F", "I;16", "I;16B", "I;16L")
"""Modes of grey values and colours; what is transparent or has a palette is turned into colours."""


def is_picture(path: Path) -> bool:
    """Whether the file's name is that of a picture; hidden files (``._scan.png``) are not."""
    return not path.name.startswith(".") and path.name.lower().endswith(PICTURE_SUFFIXES)


def read_picture(path: Path, reading: Reading) -> Volume:
    """Read a picture as MONAI's ``PILReader`` lays it: ``(C, width, height)``, 8 or 16 bit, one or three channels.

    Args:
        path: the file.
        reading: must allow pictures; they have no place in space, so most commands cannot use them.

    Raises:
        VolumeError: pictures are not allowed here, or the file is damaged or claims too many pixels.
    """
    if not reading.pictures:
        raise VolumeError("format", f"{path} is a picture, which has no place in space: give NIfTI or DICOM.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is the lower one
        try:
            with Image.open(path) as picture:
                width, height = picture.size
                if width * height > _MOST_PIXELS:
                    raise VolumeError("too_large", f"{path} claims {width}×{height} pixels: export it smaller.")
                claimed = width * height * 4 * len(picture.getbands())
                require_room(path, claimed, stored=path.stat().st_size, ratio=_LARGEST_RATIO)
                plain = picture if picture.mode in _PLAIN else picture.convert("RGB")
                array = np.asarray(plain)
        except VolumeError:
            raise
        except Exception as error:  # Pillow's plugins raise whatever their parsers run into
            raise damaged(path, str(error).strip().rstrip(".") or type(error).__name__) from error
    if array.dtype == bool:
        array = array.astype(np.uint8)
    channels = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Volume(path, np.ascontiguousarray(channels.swapaxes(1, 2)), np.eye(4))
