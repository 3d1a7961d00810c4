"""Radiographs in DICOM: a picture of one frame that lies nowhere in space, bright where the body is dense.

Only the tags named here and in :mod:`monai_transfer.volumes.dicom_headers` are read, never one that names the patient.
"""

import warnings
from pathlib import Path

import numpy as np
import pydicom

from monai_transfer.volumes.dicom_frames import STORAGE, Frame, Kind, rescale_of, sop_class_of
from monai_transfer.volumes.dicom_headers import opened_header, require_grey_values, storage_of
from monai_transfer.volumes.dicom_pixels import read_pixels
from monai_transfer.volumes.volume import Volume, VolumeError

_PROJECTIONS = {STORAGE + end for end in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "7", "12.1", "12.2")}
"""Computed and digital radiography, mammography, teeth, secondary capture, angiography and fluoroscopy."""


def is_radiograph(path: Path) -> bool:
    """Whether a DICOM file is a projection, by its class of object; False where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return sop_class_of(header) in _PROJECTIONS
    except Exception:  # a damaged header fails with whatever its bytes lead to; the reader then says so
        return False


def read_radiograph(path: Path) -> Volume:
    """Read a projection as pictures are read, ``(1, width, height)``.

    Where low values are meant to be bright (MONOCHROME1) they are turned around, so that bright is always dense.

    Raises:
        VolumeError: it has several frames or colours, or is damaged.
    """
    with opened_header(path) as (header, left):
        require_grey_values(path, header)
        if int(header.get("NumberOfFrames") or 1) != 1:
            raise VolumeError("dicom", f"{path} has several frames: export the one to diagnose.")
        storage = storage_of(path, header, left)
        rescale = rescale_of(path, header)
    # where it lies is not asked: a projection has no place among slices
    nowhere, axes = np.zeros(3), np.eye(3)[:2]
    kind = Kind("", "", sop_class_of(header), ())
    frame = Frame(path, 0, nowhere, axes, (1.0, 1.0), storage, rescale, (0, ""), kind, {})
    array = read_pixels([frame])[..., 0]
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        array = (int(array.max()) + int(array.min()) - array.astype(np.float32)).astype(np.float32)
    return Volume(path, np.ascontiguousarray(array)[None], np.eye(4))
