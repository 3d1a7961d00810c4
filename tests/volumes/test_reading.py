import logging
import struct
import threading
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from monai_transfer.text import listening
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, Volume, VolumeError
from tests.conftest import AFFINE, WriteVolume


def fault_of(path: Path) -> VolumeError:
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_voxels_and_affine(write_volume: WriteVolume) -> None:
    voxels = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
    volume = read_volume(write_volume("a.nii.gz", voxels))
    assert np.array_equal(volume.array[0], voxels)
    assert volume.affine == pytest.approx(AFFINE)
    assert volume.notes == ()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_itk_formats_agree_with_nifti(write_volume: WriteVolume, tmp_path: Path, ending: str) -> None:
    nifti = write_volume("a.nii.gz")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(nifti)), str(tmp_path / f"a{ending}"))
    one, other = read_volume(nifti), read_volume(tmp_path / f"a{ending}")
    assert np.array_equal(one.array, other.array)
    assert one.affine == pytest.approx(other.affine)


def test_mgz(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    nib.save(nib.MGHImage(voxels, AFFINE), tmp_path / "a.mgz")
    volume = read_volume(tmp_path / "a.mgz")
    assert np.array_equal(volume.array[0], voxels)
    assert volume.affine == pytest.approx(AFFINE, abs=1e-4)


def test_trailing_axes_of_one_are_dropped(write_volume: WriteVolume) -> None:
    assert read_volume(write_volume("a.nii.gz", shape=(6, 5, 4, 1, 1))).shape == (6, 5, 4)


@pytest.mark.parametrize("shape", [(6, 5, 1), (6,), (6, 5, 1, 3), (6, 5, 4, 1, 3), (6, 5, 4, 2, 3)])
def test_not_3d(write_volume: WriteVolume, shape: tuple[int, ...]) -> None:
    assert fault_of(write_volume("a.nii.gz", shape=shape)).kind == "not_3d"


def test_a_fourth_axis_is_the_channels(write_volume: WriteVolume, tmp_path: Path) -> None:
    four = np.arange(360, dtype=np.int16).reshape(6, 5, 4, 3)
    volume = read_volume(write_volume("a.nii.gz", four))
    assert np.array_equal(volume.array, np.moveaxis(four, -1, 0))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")), str(tmp_path / "a.mhd"))
    assert np.array_equal(read_volume(tmp_path / "a.mhd").array, volume.array)
    vectors = SimpleITK.GetImageFromArray(four.transpose(2, 1, 0, 3), isVector=True)
    SimpleITK.WriteImage(vectors, str(tmp_path / "a.mha"))
    assert np.array_equal(read_volume(tmp_path / "a.mha").array, volume.array)


def test_colour(write_volume: WriteVolume, tmp_path: Path) -> None:
    rgb = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert fault_of(write_volume("a.nii.gz", rgb)).kind == "colour"
    vectors = SimpleITK.Image([6, 5, 4], SimpleITK.sitkVectorUInt8, 3)
    SimpleITK.WriteImage(vectors, str(tmp_path / "a.mha"))
    assert fault_of(tmp_path / "a.mha").kind == "colour"


def test_complex(write_volume: WriteVolume) -> None:
    assert fault_of(write_volume("a.nii.gz", np.ones((3, 3, 3), np.complex64))).kind == "complex"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_truncated(write_volume: WriteVolume, name: str, share: float) -> None:
    path = write_volume(name, shape=(20, 20, 20))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert fault_of(path).kind == "unreadable"


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.mgz"])
def test_garbage(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is not a volume" * 50)
    assert fault_of(tmp_path / name).kind == "unreadable"


@pytest.mark.parametrize("shape", [(32000, 32000, 32000), (-5, 6, 6), (0, 6, 6)])
def test_header_that_lies(write_volume: WriteVolume, shape: tuple[int, int, int]) -> None:
    path = write_volume("a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<4h", content, 40, 3, *shape)
    path.write_bytes(content)
    assert fault_of(path).kind in ("unreadable", "empty")


def test_missing(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "a.nii").kind == "missing"


def test_affine_without_volume(write_volume: WriteVolume) -> None:
    path = write_volume("a.nii.gz")
    image = nib.load(path)
    image.header["srow_x"] = 0
    nib.save(nib.Nifti1Image(image.get_fdata(), None, image.header), path.with_name("b.nii.gz"))
    assert fault_of(path.with_name("b.nii.gz")).kind == "affine"


def kinds(volume: Volume) -> list[str]:
    return [note.kind for note in volume.notes]


def test_notes(write_volume: WriteVolume, tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.7
    assert "sheared" in kinds(read_volume(write_volume("a.nii.gz", affine=sheared)))
    tiny = np.diag([1e-3, 1e-3, 1e-3, 1])
    assert kinds(read_volume(write_volume("b.nii.gz", affine=tiny))) == ["spacing"]
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), None), tmp_path / "c.nii.gz")
    assert fault_of(tmp_path / "c.nii.gz").kind == "no_orientation"
    assert kinds(read_volume(tmp_path / "c.nii.gz", reading=Reading(assume_affine=True))) == ["no_orientation"]
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), AFFINE)
    image.set_qform(np.diag([2, 2, 3, 1]), 1)
    nib.save(image, tmp_path / "d.nii.gz")
    assert kinds(read_volume(tmp_path / "d.nii.gz")) == ["two_affines"]


def test_real_odd_files(shared_data: Path) -> None:
    formats = shared_data / "formats"
    assert fault_of(formats / "09_rgb/rgb_test_file.nii.gz").kind == "colour"
    assert fault_of(formats / "06_no_affine_codes_zero/minimal.nii.gz").kind == "no_orientation"
    assert len(read_volume(formats / "02_4d_timeseries/example4d.nii.gz").array) == 2
    assert len(read_volume(formats / "03_nifti2/example_nifti2.nii.gz").array) == 2
    assert len(read_volume(formats / "04_big_endian_float/reoriented_anat_moved.nii").shape) == 3
    assert "sheared" in kinds(read_volume(formats / "08_sheared_affine_slope_inter_ct/shear.nii.gz"))


def test_each_thread_hears_its_own_and_the_rest_goes_where_it_went(caplog: pytest.LogCaptureFixture) -> None:
    logger, heard, step = logging.getLogger("some.library"), {"a": [], "b": []}, threading.Barrier(3, timeout=10)

    def work(name: str) -> None:
        with listening(heard[name]):
            step.wait()
            warnings.warn(f"warned in {name}", stacklevel=1)
            logger.warning("logged  in\n%s", name)
            logger.warning("logged in %s", name)
            step.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    step.wait()
    logger.warning("logged elsewhere")
    step.wait()
    for thread in threads:
        thread.join()
    assert heard == {name: [f"warned in {name}", f"logged in {name}"] for name in ("a", "b")}
    logger.warning("logged afterwards")
    assert caplog.messages == ["logged elsewhere", "logged afterwards"]


def test_listening_inside_listening_gives_the_ear_back() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with listening(outer):
        with listening(inner):
            warnings.warn("of a volume", stacklevel=1)
        warnings.warn("of a case", stacklevel=1)
    assert (outer, inner) == (["of a case"], ["of a volume"])
