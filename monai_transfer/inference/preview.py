"""A picture to look at before opening a viewer: three planes through the labels, outlines over the image."""

from pathlib import Path

import matplotlib.image
import nibabel
import nibabel.affines
import numpy as np
from scipy import ndimage

from monai_transfer.files import replacing
from monai_transfer.inference.segmentation import colour

HEIGHT = 360
"""Pixels of each panel: three beside each other fill a usual screen."""


def write_preview(image: np.ndarray, labels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a PNG with the sagittal, coronal and axial plane that show most of the labels.

    Args:
        image: (*native shape), any number type.
        labels: (*native shape), 0 is background; masks (*native shape, labels) are shown as their last label.
        affine: voxel to RAS millimetres.
        path: the file to write.
    """
    if labels.ndim == 4:
        labels = (labels * np.arange(1, labels.shape[-1] + 1, dtype=np.uint16)).max(axis=-1)
    orientation = nibabel.io_orientation(affine)
    image, labels = (nibabel.apply_orientation(a, orientation) for a in (image, labels))
    spacing = nibabel.affines.voxel_sizes(affine @ nibabel.orientations.inv_ornt_aff(orientation, labels.shape))
    low, high = np.percentile(image[:: max(image.shape[0] // 64, 1)], (1, 99.5))
    panels = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        present = (labels != 0).sum(axis=others)
        index = int(present.argmax()) if present.any() else labels.shape[axis] // 2
        grey = np.clip((np.take(image, index, axis=axis) - low) / max(high - low, 1e-6), 0, 1)
        panels.append(_panel(grey, np.take(labels, index, axis=axis), spacing[list(others)]))
    with replacing(path) as file:
        matplotlib.image.imsave(file, np.concatenate(panels, axis=1), format="png")


def _panel(grey: np.ndarray, labels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """One plane, (rows, columns, 3) of uint8, with the outlines of the labels."""
    zoom = HEIGHT / (grey.shape[1] * spacing[1])
    size = [max(round(n * s * zoom), 1) for n, s in zip(grey.shape, spacing, strict=True)]
    index = np.ix_(
        *(np.minimum((np.arange(m) + 0.5) * n // m, n - 1).astype(int) for m, n in zip(size, grey.shape, strict=True))
    )
    large, marks = grey[index], labels[index]
    picture = np.repeat((large * 255).astype(np.uint8)[..., None], 3, axis=-1)
    edge = (marks != 0) & (ndimage.grey_erosion(marks, size=3) != ndimage.grey_dilation(marks, size=3))
    for number in np.unique(marks[edge]):
        picture[edge & (marks == number)] = colour(int(number))
    return np.flip(picture.transpose(1, 0, 2), axis=0)
