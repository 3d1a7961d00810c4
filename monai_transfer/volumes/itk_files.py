"""NRRD and MetaImage files: the header's claims first, then the voxels by ITK.

SimpleITK is imported with the first of them: it takes 97 MB, which who reads NIfTI need not have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monai_transfer.volumes.guards import (
    GZIP_RATIO,
    ZLIB,
    require_file,
    require_grey,
    require_room,
    require_voxels,
    unpacked,
    unplaced,
)
from monai_transfer.volumes.text_headers import meta_header, nrrd_header
from monai_transfer.volumes.volume import Note, Reading, Volume, damaged

if TYPE_CHECKING:
    import SimpleITK

NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")

_RATIOS = {"raw": 1, "text": 4, "zlib": GZIP_RATIO, "gzip": GZIP_RATIO, "bzip2": 1}
"""How many times more bytes each encoding can hold than it takes: a digit and a space can stand for eight bytes.

ITK does not unpack bzip2, and says so; until then nothing may be allocated for what the header claims.
"""


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Take ITK's warnings, which would go to the terminal."""
    import SimpleITK

    heard: list[str] = []

    class _Listener(SimpleITK.LoggerBase):  # type: ignore[misc]
        def DisplayText(self, text: str) -> None:  # noqa: N802 (ITK's name)
            heard.append(text)

        DisplayErrorText = DisplayWarningText = DisplayGenericOutputText = DisplayDebugText = DisplayText

    before = _Listener().SetAsGlobalITKLogger()
    try:
        yield heard
    finally:
        before.SetAsGlobalITKLogger()


def read_with_itk(path: Path, reading: Reading) -> Volume:
    """Read an NRRD or MetaImage file.

    Raises:
        VolumeError: the file is damaged, makes impossible claims, holds no grey values or does not say how it lies.
    """
    import SimpleITK

    header = (nrrd_header if path.name.lower().endswith(NRRD_SUFFIXES) else meta_header)(path)
    for file in header.data:
        require_file(file)
    stored = max(0, sum(file.stat().st_size for file in header.data) - header.offset)
    require_room(path, header.claimed, stored=stored, ratio=_RATIOS[header.encoding], working=header.claimed)
    # ITK compares no checksum, and gives what lies in its memory for the voxels that it could not unpack
    if header.encoding == "gzip" and len(header.data) == 1:
        unpacked(header.data[0], header.claimed, offset=header.offset)
    elif header.encoding == "zlib":
        if header.packed != stored and (header.packed or header.offset):
            raise damaged(path, f"its packed voxels take {stored} bytes and not {header.packed} as it says")
        for file in header.data:
            unpacked(file, header.claimed // len(header.data), offset=header.offset, wbits=ZLIB)
    notes = [] if header.placed else [unplaced(path, reading)]
    with _heard() as heard:
        image = SimpleITK.ReadImage(str(path))
    notes += [Note("library", f"{path}: {' '.join(text.split())}") for text in heard]
    components = image.GetNumberOfComponentsPerPixel()
    colour = header.colour or (components in (3, 4) and "8-bit unsigned" in image.GetPixelIDTypeAsString())
    require_grey(path, components=components if colour else 1, is_complex="complex" in image.GetPixelIDTypeAsString())
    size = (*image.GetSize(), 1)[: max(3, image.GetDimension())]  # a picture is a volume of one slice here
    require_voxels(path, (*size, components) if components > 1 else size)
    array = _channels_first(SimpleITK.GetArrayFromImage(image), several=components > 1)
    return Volume(path, array, _affine(image), notes=tuple(notes))


def _channels_first(array: np.ndarray, *, several: bool) -> np.ndarray:
    """ITK's array, (t, z, y, x, channel) as far as they exist, with the channels first; ``several`` of each voxel."""
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    if several:
        return np.moveaxis(array, -1, 0).transpose(0, 3, 2, 1)
    if array.ndim == 3:
        return array.T[None]
    return array.reshape(-1, *array.shape[-3:]).transpose(0, 3, 2, 1)


def _affine(image: "SimpleITK.Image") -> np.ndarray:
    size = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(size, size)[:3, :3] @ np.diag(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's world points left and back
