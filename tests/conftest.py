"""Fixtures that every room shares."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# before torch is imported, which asks once: the tests run on as many workers as there are cores, and threads that spin
# for each other on a busy machine would take minutes for what takes seconds
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import nibabel as nib
import numpy as np
import pytest

WriteVolume = Callable[..., Path]
AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 20], [0, 0, 3.0, -10], [0, 0, 0, 1]])
SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The record of bundles that tests make stays out of the home of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_TRANSFER_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes beside the project, where there is one."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real volumes are not here: ../shared/data is absent")
    return SHARED_DATA


@pytest.fixture
def write_volume(tmp_path: Path) -> WriteVolume:
    """Write a NIfTI under the test's folder; random voxels unless some are given."""
    count = 0

    def write(name: str, voxels: Any = None, affine: Any = AFFINE, shape: tuple[int, ...] = (6, 5, 4)) -> Path:
        nonlocal count
        count += 1
        if voxels is None:
            voxels = np.random.default_rng(count).integers(0, 1000, shape).astype(np.int16)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), path)
        return path

    return write


@pytest.fixture
def write_pair(write_volume: WriteVolume, tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write an image and its label into images/ and labels/."""

    def write(name: str, *, values: tuple[int, ...] = (0, 1, 2)) -> tuple[Path, Path]:
        label = np.resize(np.array(values, np.uint8), (6, 5, 4))
        return write_volume(f"images/{name}.nii.gz"), write_volume(f"labels/{name}.nii.gz", label)

    return write
