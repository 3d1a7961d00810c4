"""Reading and writing: every format in, NIfTI with the input's header out."""

import gzip
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest

from monai_transfer.errors import UserError
from monai_transfer.files import replacing
from monai_transfer.inference.segmentation import colour, write_sidecars
from monai_transfer.volumes.reading import FastGzip, read_volume, write_volume
from monai_transfer.volumes.volume import Reading

from .conftest import body, write_nifti

AFFINE = np.array([[0, -1.2, 0, 10], [0.9, 0, 0, -5], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])


def test_header_is_carried_on(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"scanner 3"))
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"a scan"
    image = nibabel.Nifti1Image(body((9, 8, 7)), None, header)
    image.set_qform(AFFINE, 3)
    image.set_sform(AFFINE, 2)
    image.header.set_slope_inter(2.0, -5.0)
    nibabel.save(image, tmp_path / "in.nii.gz")
    volume = read_volume(tmp_path / "in.nii.gz", reading=Reading(keep_header_text=True))
    np.testing.assert_allclose(volume.array[0], nibabel.load(tmp_path / "in.nii.gz").get_fdata(), rtol=1e-6)
    labels = np.random.default_rng(0).integers(0, 5, (9, 8, 7)).astype(np.uint8)
    write_volume(labels, tmp_path / "out.nii.gz", like=volume)
    out = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(out.dataobj), labels)
    np.testing.assert_allclose(out.affine, AFFINE, atol=1e-5)
    assert (int(out.header["qform_code"]), int(out.header["sform_code"])) == (3, 2)
    assert out.header.get_xyzt_units() == ("mm", "sec")
    assert out.header.extensions[0].get_content() == b"scanner 3"
    assert out.get_data_dtype() == np.uint8


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 4)])
def test_affine_codes_are_kept(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nibabel.Nifti1Image(body((6, 7, 8)), None)
    image.header.set_zooms((1.0, 2.0, 3.0))
    image.set_qform(np.diag([1.0, 2.0, 3.0, 1.0]), codes[0])
    image.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), codes[1])
    nibabel.save(image, tmp_path / "in.nii")
    volume = read_volume(tmp_path / "in.nii", reading=Reading(assume_affine=True))
    write_volume(np.zeros((6, 7, 8), np.uint8), tmp_path / "out.nii", like=volume)
    out, given = nibabel.load(tmp_path / "out.nii"), nibabel.load(tmp_path / "in.nii")
    assert (int(out.header["qform_code"]), int(out.header["sform_code"])) == codes
    np.testing.assert_allclose(out.affine, given.affine)


def test_nifti2_and_big_endian(tmp_path: Path) -> None:
    array = body((6, 7, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti2Image(array, AFFINE), tmp_path / "two.nii.gz")
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(array, AFFINE, header), tmp_path / "big.nii.gz")
    for name, kind in (("two", nibabel.Nifti2Image), ("big", nibabel.Nifti1Image)):
        volume = read_volume(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(volume.array[0], array)
        volume.tensor()
        write_volume((array > 0).astype(np.uint16), tmp_path / "out.nii.gz", like=volume)
        out = nibabel.load(tmp_path / "out.nii.gz")
        assert isinstance(out, kind)
        np.testing.assert_array_equal(np.asanyarray(out.dataobj), array > 0)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz", ".mgz", ".nii"])
def test_every_format_lies_on_the_same_grid(tmp_path: Path, suffix: str) -> None:
    array = body((11, 9, 7))
    reference = write_nifti(tmp_path / "reference.nii.gz", array, AFFINE)
    path = tmp_path / f"image{suffix}"
    if suffix == ".mgz":
        nibabel.save(nibabel.MGHImage(array.astype(np.float32), AFFINE), path)
    else:
        itk.imwrite(itk.imread(str(reference)), str(path))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-4)
    write_volume((array > 0).astype(np.uint8), tmp_path / "out.nii.gz", like=volume)
    out = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(out.dataobj), array > 0)
    np.testing.assert_allclose(out.affine, AFFINE, atol=1e-4)
    if suffix in (".nrrd", ".mha", ".mgz"):
        assert out.header.get_xyzt_units()[0] == "mm"
        assert int(out.header["sform_code"]) == 1


def test_a_dicom_series(shared_data: Path) -> None:
    volume = read_volume(shared_data / "formats" / "20_dicom_series_ct" / "series")
    label = nibabel.load(shared_data / "formats" / "20_dicom_series_ct" / "seg_pseudo_LAS.nii.gz")
    assert volume.shape == (512, 512, 20)
    ours = np.sort(np.abs(volume.affine @ [*volume.shape, 1]))
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert nibabel.aff2axcodes(label.affine) == ("L", "A", "S")
    assert np.isfinite(ours).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"no gzip at all", "cannot be read"),
        (gzip.compress(b"short", mtime=0), "cannot be read"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read_volume(tmp_path / "broken.nii.gz")
    assert "broken.nii.gz" in str(raised.value)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "cut.nii.gz", body((20, 20, 20)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cut.nii.gz cannot be read"):
        read_volume(path)


def test_images_that_are_no_volumes(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii.gz")
    with pytest.raises(UserError, match="colour"):
        read_volume(tmp_path / "rgb.nii.gz")
    holes = np.ones((4, 4, 4), np.float32)
    holes[1, 2, 3] = np.nan
    with pytest.raises(UserError, match="holds 1 voxels that are NaN or infinite"):
        read_volume(write_nifti(tmp_path / "nan.nii.gz", holes))


def test_gzip_is_one_ordinary_member(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 3, 9 << 20, dtype=np.uint8).tobytes()
    path = tmp_path / "data.gz"
    with path.open("wb") as file, FastGzip(file) as packed:
        for first in range(0, len(data), 1_000_003):
            packed.write(data[first : first + 1_000_003])
    assert gzip.decompress(path.read_bytes()) == data


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(TypeError), replacing(tmp_path / "file") as file:
        file.write("text, not bytes")  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_sidecars(tmp_path: Path) -> None:
    write_sidecars({0: "background", 1: "left kidney"}, tmp_path)
    assert '"left kidney"' in (tmp_path / "labels.json").read_text()
    assert '"left kidney"' in (tmp_path / "labels.itksnap.txt").read_text().splitlines()[-1]
    red, green, blue = colour(1)
    assert (tmp_path / "labels.ctbl").read_text().splitlines()[-1] == f"1 left_kidney {red} {green} {blue} 255"
    assert len({colour(n) for n in range(105)}) == 105
