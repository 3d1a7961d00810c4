"""Small label maps on disk."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_transfer.datasets import Case, CaseDataset

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 2.0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])

Write = Callable[..., Path]


def two_boxes(shift: int = 0) -> np.ndarray:
    """A big label 1 and a small label 2, moved along the first axis."""
    volume = np.zeros((20, 16, 12), dtype=np.uint8)
    volume[4 + shift : 12 + shift, 3:11, 2:9] = 1
    volume[13 + shift : 16 + shift, 4:8, 3:6] = 2
    return volume


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), path)
        return path

    return _write


@pytest.fixture
def dataset(tmp_path: Path, write: Write) -> CaseDataset:
    rng = np.random.default_rng(0)
    cases = []
    for name in ("a", "b", "c"):
        image = rng.normal(100, 5, size=(20, 16, 12)) + 60 * two_boxes()
        cases.append(
            Case(
                name,
                (write(f"data/images/{name}.nii.gz", image.astype(np.float32)),),
                write(f"data/labels/{name}.nii.gz", two_boxes()),
            )
        )
    return CaseDataset(tmp_path / "data", tuple(cases), {0: "background", 1: "liver", 2: "left_kidney"})
