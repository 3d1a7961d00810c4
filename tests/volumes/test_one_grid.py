"""The door, the training loader and plain MONAI agree on grid and voxels, and results lie on their inputs."""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImage, LoadImaged

from monai_transfer.errors import UserError
from monai_transfer.volumes.monai_reader import VolumeReader, load_volumes
from monai_transfer.volumes.reading import read_volume, write_volume
from monai_transfer.volumes.volume import VolumeError

FAULTS = Path(__file__).resolve().parents[2].parent / "shared" / "faults"
PLAIN = LoadImage(ensure_channel_first=True)
OURS = LoadImage(ensure_channel_first=True)
OURS.register(VolumeReader())

angles = st.floats(-3.1, 3.1)
spacings = st.floats(0.1, 8.0)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        step, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
        step[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turned = turned @ step
    return turned


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Oblique, flipped, anisotropic, and one in three sheared."""
    affine = np.eye(4)
    shear = np.eye(3)
    shear[0, 2] = draw(st.sampled_from([0.0, 0.0, 0.3]))
    flips = np.diag(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    sizes = np.diag(draw(st.tuples(spacings, spacings, spacings)))
    affine[:3, :3] = rotation(*draw(st.tuples(angles, angles, angles))) @ shear @ flips @ sizes
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


@given(
    affine=affines(),
    codes=st.sampled_from([(0, 1), (1, 0), (1, 1), (2, 4), (0, 2)]),
    dtype=st.sampled_from(["u1", "i2", "<u2", ">i2", "i4", "f4", ">f4", "f8"]),
    slope=st.sampled_from([(1.0, 0.0), (0.5, -3.0), (0.1234567, 10.0)]),
    nifti2=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_reader_sees_one_grid(
    affine: np.ndarray, codes: tuple[int, int], dtype: str, slope: tuple[float, float], nifti2: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.nii.gz"
        array = np.random.default_rng(0).integers(0, 100, (5, 4, 3)).astype(dtype)
        kind = nib.Nifti2Image if nifti2 else nib.Nifti1Image
        image = kind(array, affine)
        image.set_qform(affine, codes[0])
        image.set_sform(affine, codes[1])
        image.header.set_slope_inter(*slope)
        nib.save(image, path)
        volume = read_volume(path)
        ours, plain = OURS(path), PLAIN(path)
        np.testing.assert_array_equal(volume.affine, nib.load(path).affine)
        np.testing.assert_array_equal(ours.affine.numpy(), volume.affine)
        np.testing.assert_array_equal(ours.numpy(), volume.tensor().numpy())
        np.testing.assert_array_equal(ours.numpy(), plain.numpy())
        if "stale_pixdim" not in {note.kind for note in volume.notes}:
            np.testing.assert_array_equal(plain.affine.numpy(), volume.affine)
        write_volume((array > 50).astype(np.uint8), Path(name) / "y.nii.gz", like=volume)
        given_header, made = nib.load(path).header, nib.load(Path(name) / "y.nii.gz").header
        for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "sform_code", "qform_code", "pixdim"):
            np.testing.assert_array_equal(made[field], given_header[field])
        np.testing.assert_array_equal(read_volume(Path(name) / "y.nii.gz").affine, volume.affine)


@pytest.mark.slow
def test_real_files_as_plain_monai_reads_them(shared_data: Path) -> None:
    paths = [p for p in sorted((shared_data / "formats").rglob("*")) if p.name.endswith((".nii", ".nii.gz", ".nrrd"))]
    read = 0
    for path in paths:
        try:
            volume = read_volume(path)
        except VolumeError:
            continue
        plain = PLAIN(path)
        np.testing.assert_array_equal(plain.numpy(), volume.tensor().numpy(), err_msg=str(path))
        if "stale_pixdim" not in {note.kind for note in volume.notes}:
            np.testing.assert_array_equal(plain.affine.numpy(), volume.affine, err_msg=str(path))
        read += 1
    assert read > 10


def test_what_the_door_refuses_no_other_reader_reads(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), None), tmp_path / "x.nii.gz")
    assert isinstance(load_volumes(["image"]), LoadImaged)
    with pytest.raises(UserError, match="--assume-affine"):
        load_volumes(["image"])({"image": str(tmp_path / "x.nii.gz")})


STALE = {
    "other voxel sizes, no qform": ((1.0, 1.0, 1.0), 0),
    "other voxel sizes, a qform": ((1.0, 1.0, 1.0), 1),
    "sizes of other axes": ((3.0, 2.0, 2.0), 0),
    "one size": ((2.0, 2.0, 3.5), 1),
    "huge sizes": ((1000.0, 1000.0, 1000.0), 0),
}
"""Voxel sizes in the pixdim of a file whose sform says 2, 2 and 3 mm, and the code of its qform."""


@pytest.mark.parametrize("name", STALE)
def test_a_coded_sform_wins_over_voxel_sizes(tmp_path: Path, name: str) -> None:
    affine = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 20], [0, 0, 3.0, -10], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 9, (6, 5, 4)).astype(np.int16), affine)
    image.set_sform(affine, 1)
    sizes, code = STALE[name]
    image.set_qform(affine, code)
    image.header["pixdim"][1:4] = sizes
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(image.to_bytes()))
    volume = read_volume(path)
    assert "stale_pixdim" in {note.kind for note in volume.notes}
    np.testing.assert_array_equal(volume.affine, affine)
    np.testing.assert_array_equal(OURS(path).affine.numpy(), affine)
    write_volume((volume.array[0] > 4).astype(np.uint8), tmp_path / "y.nii.gz", like=volume)
    np.testing.assert_array_equal(read_volume(tmp_path / "y.nii.gz").affine, affine)
    given_header, made = nib.load(path).header, nib.load(tmp_path / "y.nii.gz").header
    np.testing.assert_array_equal(made["pixdim"], given_header["pixdim"])


def test_stale_voxel_sizes_change_nothing(tmp_path: Path) -> None:
    if not FAULTS.is_dir():
        pytest.skip("generators of faults are not here: ../shared/faults is absent")
    subprocess.run([sys.executable, str(FAULTS / "09_stale_pixdim.py"), str(tmp_path)], check=True)
    for path in sorted(tmp_path.rglob("*.nii.gz")):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.affine, nib.load(path).get_sform())
        np.testing.assert_array_equal(OURS(path).affine.numpy(), volume.affine)
        assert "stale_pixdim" in {note.kind for note in volume.notes}
        assert path.name in volume.notes[0].message
        write_volume(np.zeros(volume.shape, np.uint8), tmp_path / "made.nii.gz", like=volume)
        np.testing.assert_array_equal(nib.load(tmp_path / "made.nii.gz").get_sform(), volume.affine)
        (tmp_path / "made.nii.gz").unlink()
