"""Pictures of where a network looked: the image in grey, the map over it in colour."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_transfer.figures.report import page_environment
from monai_transfer.files import write_text

_COLOURS = "inferno"
_STRENGTH = 0.65
"""Share of the colour at the hottest place; the rest is the image, which must stay to be seen."""


def heat_picture(image: NDArray[Any], heat: NDArray[np.float32], *, affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The image beside itself with the heat over it, ``(height, 2 × width, 3)``, 8 bit.

    Of a volume the axial slice with the hottest place is taken, seen from the feet.

    Args:
        image: ``(width, height)`` of a picture or ``(x, y, z)`` of a volume.
        heat: the same shape, 0 to 1.
        affine: voxel to RAS millimetres; unused for a picture.

    Example:
        >>> heat_picture(np.random.rand(8, 6), np.zeros((8, 6), np.float32), affine=np.eye(4)).shape
        (6, 16, 3)
    """
    flat, warm = np.asarray(image, np.float32), np.asarray(heat, np.float32)
    if flat.ndim == 3:
        flat, warm = _axial(flat, warm, affine)
    low, high = np.percentile(flat, (1, 99))
    grey = np.clip((flat - low) / max(float(high - low), 1e-6), 0, 1)[..., None].repeat(3, -1)
    colour = matplotlib.colormaps[_COLOURS](np.clip(warm, 0, 1))[..., :3]
    share = _STRENGTH * np.clip(warm, 0, 1)[..., None]
    both = np.concatenate([grey, (1 - share) * grey + share * colour], axis=0)
    return np.asarray(np.rint(255 * both.swapaxes(0, 1)), np.uint8)


def _axial(
    image: NDArray[np.float32], heat: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The hottest axial slice of both, the patient's right on the left and the front above."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(("L", "P", "S")))
    image, heat = (nib.orientations.apply_orientation(array, turn) for array in (image, heat))
    index = int(np.argmax(heat.reshape(-1, heat.shape[2]).max(0)))
    return image[..., index], heat[..., index]


def write_heat_page(path: Path, pictures: Sequence[tuple[str, Path]], *, title: str, method: str) -> None:
    """Write a page of pictures of :func:`heat_picture`.

    Args:
        path: the HTML file.
        pictures: a caption, and the PNG of each picture, which goes into the page.
        title: stands above.
        method: how the maps were made.
    """
    shown = [
        {"title": caption, "source": "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()}
        for caption, file in pictures
    ]
    page = {"title": title, "headline": f"{len(shown)} maps by {method}.", "pictures": shown}
    write_text(path, page_environment().get_template("heat.html.j2").render({**page, **_EMPTY}))


_EMPTY: dict[str, Any] = {"sentences": [], "warnings": [], "overlays": [], "run": {}}
