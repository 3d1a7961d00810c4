"""Label maps in other formats than NIfTI: NRRD, also as 3D Slicer's segmentations, MetaImage and MGH.

NRRD and MetaImage point left, back and up where NIfTI points right, front and up, and hold a direction of right angles
and a spacing in place of an affine, as MGH does: a leaning grid fits into none of them.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monai_transfer.errors import UserError
from monai_transfer.files import temporary_beside
from monai_transfer.options import LabelFormat
from monai_transfer.text import one_line
from monai_transfer.volumes.volume import is_segmentation, shear_of, spacing_of

if TYPE_CHECKING:
    from monai_transfer.inference.segmentation import Segmentation

_ENDINGS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "seg.nrrd": ".seg.nrrd", "mha": ".mha", "mgz": ".mgz"}
_OWN = {"nii": ".nii", "nrrd": ".nrrd", "nhdr": ".nrrd", "mha": ".mha", "mhd": ".mha", "mgz": ".mgz", "mgh": ".mgz"}

_RIGHT_ANGLE = 1e-3
"""Cosine up to which axes count as perpendicular: what rounded headers make of right angles stays below."""


def label_ending(kind: LabelFormat, source: Path) -> str:
    """The ending of a label map's file name.

    Args:
        kind: the format.
        source: the input.

    Example:
        >>> label_ending("same", Path("scan.nhdr")), label_ending("same", Path("series")), label_ending("mha", Path())
        ('.nrrd', '.nii.gz', '.mha')
    """
    if kind != "same":
        return _ENDINGS[kind]
    return _OWN.get(source.suffix.lower()[1:], ".nii.gz") if not source.is_dir() else ".nii.gz"


def write_labels(labels: NDArray[Any], path: Path, result: "Segmentation", names: Mapping[int, str]) -> None:
    """Write a label map, or one mask for each label; the file appears when it is complete.

    Args:
        labels: (X, Y, Z), or (X, Y, Z, labels) where they overlap; uint8 or uint16.
        path: ends in ``.nrrd``, ``.seg.nrrd``, ``.mha`` or ``.mgz``.
        result: on whose grid it lies.
        names: name of each value, of each mask where they overlap.

    Raises:
        UserError: the grid leans, which these formats cannot say.
        OSError: the file cannot be written.
    """
    if shear_of(result.affine) > _RIGHT_ANGLE:
        raise UserError(
            f"{result.source.path} lies on a leaning grid, which {path.suffix[1:].upper()} cannot hold: omit --format."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    making = temporary_beside(path)  # a folder: the libraries know the format by the file's name
    making.mkdir()
    try:
        if path.suffix == ".mgz":
            _write_mgh(labels, making / path.name, result)
        else:
            _write_with_itk(labels, making / path.name, result, names)
        (making / path.name).replace(path)
    except RuntimeError as error:  # all that ITK raises
        raise OSError(0, one_line(str(error))) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write_mgh(labels: NDArray[Any], path: Path, result: "Segmentation") -> None:
    import nibabel as nib

    # MGH has no unsigned integers of two bytes
    nib.save(nib.MGHImage(labels.astype(np.int32 if labels.itemsize > 1 else np.uint8), result.affine), path)


def _write_with_itk(labels: NDArray[Any], path: Path, result: "Segmentation", names: Mapping[int, str]) -> None:
    import SimpleITK

    overlapping = labels.ndim > len(result.source.shape)
    volume = labels if len(result.source.shape) == 3 else labels[:, :, None]
    turned = np.ascontiguousarray(volume.transpose(2, 1, 0, *range(3, volume.ndim)))
    image = SimpleITK.GetImageFromArray(turned, isVector=overlapping)
    affine, spacing = np.diag([-1.0, -1.0, 1.0, 1.0]) @ result.affine, spacing_of(result.affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    if is_segmentation(path):
        for key, value in _segments(volume, names, overlapping=overlapping).items():
            image.SetMetaData(key, value)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _segments(labels: NDArray[Any], names: Mapping[int, str], *, overlapping: bool) -> dict[str, str]:
    """What 3D Slicer reads of a segmentation in the header of an NRRD: name, value, colour and place of each label."""
    from monai_transfer.inference.segmentation import colour

    header = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    extent = " ".join(f"0 {size - 1}" for size in labels.shape[:3])
    seen = [(number, name) for number, name in sorted(names.items()) if number or overlapping]
    for place, (number, name) in enumerate(seen):
        segment = {
            "ID": f"Segment_{number}",
            "Name": one_line(name),
            "LabelValue": "1" if overlapping else str(number),
            "Layer": str(place) if overlapping else "0",
            "Color": " ".join(f"{part / 255:.4f}" for part in colour(number + overlapping)),
            "Extent": extent,
        }
        header |= {f"Segment{place}_{key}": value for key, value in segment.items()}
    return header
