"""A data set written to disk: NIfTI volumes, and the ``dataset.json`` that says what they are."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_transfer.files import replacing, write_text


def write_nifti(
    voxels: NDArray[np.int16] | NDArray[np.uint8] | NDArray[np.float32], affine: NDArray[np.float64], path: Path
) -> None:
    """Write a volume ``(x, y, z)`` that appears when it is complete.

    Args:
        voxels: as they are stored.
        affine: voxel to world, RAS mm, ``(4, 4)``.
        path: ends in ``.nii.gz``.
    """
    volume = nib.Nifti1Image(voxels, affine)
    volume.set_sform(affine, 1)
    volume.set_qform(affine, 1)
    volume.header.set_xyzt_units("mm")
    with replacing(path) as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
        volume.to_stream(packed)


def write_description(root: Path, *, name: str, text: str, modality: str, label_names: Mapping[int, str]) -> None:
    """Write ``dataset.json`` as the Medical Segmentation Decathlon does, with every subject in ``images``.

    Args:
        root: holds ``images`` and ``labels``, whose files bear the same names.
        name: of the data set.
        text: one sentence about it.
        modality: of the images, such as ``"CT"``.
        label_names: label value -> name.
    """
    files = sorted(path.name for path in (root / "images").glob("*.nii.gz") if not path.name.startswith("."))
    pairs = [{"image": f"./images/{file}", "label": f"./labels/{file}"} for file in files]
    description = {
        "name": name,
        "description": text,
        "tensorImageSize": "3D",
        "modality": {"0": modality},
        "labels": {str(value): label for value, label in label_names.items()},
        "numTraining": len(pairs),
        "training": pairs,
        "test": [],
    }
    write_text(root / "dataset.json", json.dumps(description, indent=2) + "\n")
