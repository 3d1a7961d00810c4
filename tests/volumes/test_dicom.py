"""Which files form a volume, how it lies, and what its voxels are."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest
from monai.data import ITKReader
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1, RLELossless

from monai_transfer.volumes.dicom import find_series, read_dicom, read_series
from monai_transfer.volumes.volume import Reading, Volume, VolumeError
from tests.volumes.dicom_files import (
    AXIAL,
    CENTRE,
    COLUMNS,
    CORONAL,
    HALF,
    INSIDE,
    MR,
    ROWS,
    axial,
    enhanced,
    hounsfield,
    save,
    slice_of,
    tilted,
    write_series,
)

PLACES = np.arange(-16.0, 13.0, 2.0)
FAULTS = Path(__file__).resolve().parents[2].parent / "shared" / "faults"


def centroid(volume: Volume, value: int = INSIDE) -> np.ndarray:
    found = np.argwhere(volume.array[0] == value)
    centre: np.ndarray = (volume.affine @ np.append(found.mean(0), 1))[:3]
    return centre


def kinds(volume: Volume) -> set[str]:
    return {note.kind for note in volume.notes}


def by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = ITKReader()
    array, meta = reader.get_data(reader.read([str(folder)]))
    return array, np.asarray(meta["affine"])


def oblique() -> tuple[list[np.ndarray], tuple[float, ...]]:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return [np.array([3.0, -4, 5]) + n * 1.75 * np.cross(turn[0], turn[1]) for n in range(9)], (*turn[0], *turn[1])


@pytest.mark.parametrize("case", ["axial", "backwards", "coronal", "oblique", "no suffix", "8 bits", "signed"])
def test_a_sound_series_is_read_as_itk_reads_it(tmp_path: Path, case: str) -> None:
    positions, axes, changes = axial(PLACES), AXIAL, {}
    if case == "backwards":
        positions = positions[::-1]
    elif case == "coronal":
        positions, axes = [(-18.0, y, 20.0) for y in PLACES], CORONAL
    elif case == "oblique":
        positions, axes = oblique()
    elif case == "8 bits":
        pixels = np.arange(ROWS * COLUMNS, dtype=np.uint8).tobytes()
        changes = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": pixels, "RescaleIntercept": 0}
    elif case == "signed":
        pixels = (np.arange(ROWS * COLUMNS) - 150).astype("<i2").tobytes()
        changes = {
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelData": pixels,
            "RescaleIntercept": 0,
        }
    write_series(tmp_path, positions, axes, suffix="" if case == "no suffix" else ".dcm", **changes)
    volume = read_dicom(tmp_path)
    array, affine = by_itk(tmp_path)
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.array.dtype == array.dtype
    assert volume.notes == ()


def test_the_real_series_is_read_as_itk_reads_it(shared_data: Path) -> None:
    folder = shared_data / "formats" / "20_dicom_series_ct" / "series"
    volume, (array, affine) = read_dicom(folder), by_itk(folder)
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)


@pytest.mark.parametrize("degrees", [-25, -5, 0.5, 12, 30])
def test_a_tilted_gantry_shears_the_grid(tmp_path: Path, degrees: float) -> None:
    positions, axes = tilted(PLACES, degrees)
    write_series(tmp_path, positions, axes)
    volume = read_dicom(tmp_path)
    assert kinds(volume) == {"gantry_tilt"}
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, 2], atol=1e-5)
    assert np.abs(centroid(volume) - CENTRE).max() < 1.3


def test_files_in_any_order_of_names_and_numbers(tmp_path: Path) -> None:
    places = list(PLACES)
    random.Random(1).shuffle(places)
    write_series(tmp_path, axial(places))
    volume = read_dicom(tmp_path)
    np.testing.assert_allclose(volume.affine[:3, 3], [18, 20, -16])
    assert volume.affine[2, 2] == 2


@pytest.mark.parametrize("lost", [[4], [4, 5, 6], [1], [3, 9], list(range(1, 7))])
def test_missing_slices_are_refused_or_interpolated(tmp_path: Path, lost: list[int]) -> None:
    write_series(tmp_path, axial([z for n, z in enumerate(PLACES) if n not in lost]))
    with pytest.raises(
        VolumeError, match=r"mm where 2\.000 mm are expected, \d slices? (is|are) missing there"
    ) as refusal:
        read_dicom(tmp_path)
    assert refusal.value.kind == "irregular"
    volume = read_dicom(tmp_path, reading=Reading(allow_irregular=True))
    assert volume.shape == (COLUMNS, ROWS, len(PLACES))
    np.testing.assert_allclose(volume.affine[:3, 2], [0, 0, 2])
    for number in sorted(set(range(len(PLACES))) - set(lost)):
        np.testing.assert_array_equal(volume.array[0, :, :, number].T, hounsfield(axial(PLACES)[number]))
    assert kinds(volume) == {"irregular"}


@pytest.mark.parametrize("places", [[0, 1, 2, 4, 8, 9], [0, 5, 7.5, 10, 12.5], np.r_[0:10:2.0, 10:20:5.0]])
def test_uneven_slices_are_interpolated_between_their_neighbours(tmp_path: Path, places: Any) -> None:
    for number, z in enumerate(places):
        pixels = np.full((ROWS, COLUMNS), round(z * 10), "<u2").tobytes()  # a ramp along z
        files = write_series(
            tmp_path, axial([z]), uids=("1.2", "1.3"), first=number + 1, PixelData=pixels, RescaleIntercept=0
        )
    with pytest.raises(VolumeError, match=r"its gaps go from|are missing|is missing"):
        read_dicom(files[0].parent)
    volume = read_dicom(tmp_path, reading=Reading(allow_irregular=True))
    z = volume.affine[2, 2] * np.arange(volume.shape[2])
    np.testing.assert_allclose(volume.array[0, 3, 4], 10 * z, atol=0.51)  # integers are rounded


def test_positions_rounded_to_a_decimal_are_told(tmp_path: Path) -> None:
    write_series(tmp_path, axial([round(0.625 * n, 1) for n in range(20)]))
    assert kinds(read_dicom(tmp_path)) == {"rounded_positions"}


def test_a_slice_moved_sideways_is_refused(tmp_path: Path) -> None:
    positions = axial(PLACES)
    positions[5] = (positions[5][0] + 3, *positions[5][1:])
    write_series(tmp_path, positions)
    for reading in (Reading(), Reading(allow_irregular=True)):
        with pytest.raises(VolumeError, match=r"im006\.dcm lies 3\.00 mm beside"):
            read_dicom(tmp_path, reading=reading)


@pytest.mark.parametrize("beside", [0, 0.01, -0.02])
def test_double_slices_are_refused_by_name(tmp_path: Path, beside: float) -> None:
    uids = ("1.2.3.4", "1.2.3.5")
    write_series(tmp_path, axial(PLACES), uids=uids)
    write_series(tmp_path, axial(PLACES[4:6] + beside), uids=uids, prefix="again")
    with pytest.raises(VolumeError, match="lie at the same place") as refusal:
        read_dicom(tmp_path)
    assert all(name in str(refusal.value) for name in ("again001.dcm", "im005.dcm"))
    assert refusal.value.kind == "double"
    with pytest.raises(VolumeError, match="lie at the same place"):
        read_dicom(tmp_path, reading=Reading(allow_irregular=True))


def test_copies_of_one_file(tmp_path: Path) -> None:
    files = write_series(tmp_path, axial(PLACES))
    (tmp_path / "copy.dcm").write_bytes(files[3].read_bytes())
    with pytest.raises(VolumeError, match="lie at the same place"):
        read_dicom(tmp_path)
    volume = read_dicom(tmp_path, reading=Reading(allow_irregular=True))
    assert volume.shape[2] == len(PLACES)
    assert kinds(volume) == {"double"}


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("AcquisitionNumber", (1, 2)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("EchoNumbers", (1, 2)),
        ("EchoTime", (4.6, 9.2)),
        ("DiffusionBValue", (0.0, 800.0)),
        ("NominalPercentageOfCardiacPhase", (20.0, 70.0)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
        ("PixelSpacing", ([2.5, 2.0], [1.25, 1.0])),
        ("FrameOfReferenceUID", ("1.2.3", "1.2.4")),
    ],
)
def test_volumes_of_one_series_are_told_apart(tmp_path: Path, tag: str, values: tuple[Any, Any]) -> None:
    uids = ("1.2.3.4", "1.2.3.5")
    for number, value in enumerate(values):
        pixels = np.full((ROWS, COLUMNS), 100 + number, "<u2").tobytes()
        changes = {tag: value, "PixelData": pixels, "InstanceNumber": 7, "RescaleIntercept": 0}
        write_series(tmp_path, axial(PLACES), uids=uids, prefix=f"p{number}_", SOPClassUID=MR, **changes)
    series, _ = find_series([tmp_path])
    assert [one.uid for one in series] == ["1.2.3.4", "1.2.3.4#2"]
    for number, one in enumerate(series):
        volume = read_series(one)
        assert volume.shape[2] == len(PLACES)
        assert (volume.array == 100 + number).all()
    with pytest.raises(VolumeError, match="holds 2 DICOM volumes"):
        read_dicom(tmp_path)
    assert (read_dicom(tmp_path, series="1.2.3.4#2").array == 101).all()


def test_phases_that_only_their_numbers_tell_apart(tmp_path: Path) -> None:
    write_series(tmp_path, axial([*PLACES, *PLACES]))
    series, _ = find_series([tmp_path])
    assert [len(one.frames) for one in series] == [len(PLACES)] * 2


def test_phases_that_interleave_are_no_finer_volume(tmp_path: Path) -> None:
    uids = ("1.2.3.4", "1.2.3.5")
    write_series(tmp_path, axial(PLACES), uids=uids)
    write_series(tmp_path, axial(PLACES + 1), uids=uids, prefix="second", AcquisitionNumber=2)
    series, _ = find_series([tmp_path])
    assert [read_series(one).affine[2, 2] for one in series] == [2, 2]


def test_a_sequential_scan_has_an_acquisition_for_every_slice(tmp_path: Path) -> None:
    for number, position in enumerate(axial(PLACES), start=1):
        write_series(tmp_path, [position], uids=("1.2", "1.3"), first=number, AcquisitionNumber=number)
    volume = read_dicom(tmp_path)
    assert volume.shape[2] == len(PLACES)


def test_two_stacks_apart_are_two_volumes(tmp_path: Path) -> None:
    uids = ("1.2.3.4", "1.2.3.5")
    write_series(tmp_path, axial(PLACES), uids=uids)
    write_series(tmp_path, axial(PLACES + 77), uids=uids, prefix="second", AcquisitionNumber=2)
    assert len(find_series([tmp_path])[0]) == 2


@pytest.mark.parametrize(
    ("sop_class", "said"),
    [
        ("1.2.840.10008.5.1.4.1.1.481.2", "RT Dose"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "Segmentation"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "Basic Text SR"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State"),
        ("1.2.840.10008.5.1.4.1.1.1", "Computed Radiography Image"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_objects_that_are_no_scan_are_left_out(tmp_path: Path, sop_class: str, said: str) -> None:
    write_series(tmp_path, axial(PLACES))
    save(slice_of((0, 0, 0), SOPClassUID=sop_class), tmp_path / "other.dcm")
    volume = read_dicom(tmp_path)
    assert volume.shape[2] == len(PLACES)
    assert [note.message for note in volume.notes] == [
        f"{tmp_path / 'other.dcm'} is left out: it is not a scan but {said!r}."
    ]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("axes", [CORONAL, AXIAL])
def test_localizers_in_the_series_are_left_out(tmp_path: Path, named: bool, axes: tuple[float, ...]) -> None:
    if not named and axes == AXIAL:
        pytest.skip("an axial slice that does not call itself a localizer is a slice")
    uids = ("1.2.3.4", "1.2.3.5")
    write_series(tmp_path, axial(PLACES), uids=uids)
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER" if named else "AXIAL"]
    write_series(tmp_path, [(-18, 0, 20)], axes, uids=uids, first=900, ImageType=kind)
    volume = read_dicom(tmp_path)
    assert volume.shape[2] == len(PLACES)
    assert "im900.dcm is left out" in volume.notes[0].message


def test_what_is_no_dicom_is_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path, axial(PLACES))
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    (tmp_path / ".im001.dcm").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    assert read_dicom(tmp_path).notes == ()


@pytest.mark.parametrize("order", [range(15), random.Random(5).sample(range(15), 15)])
@pytest.mark.parametrize("per_frame", [False, True])
def test_an_enhanced_file_is_read_by_its_frames(tmp_path: Path, order: Any, per_frame: bool) -> None:
    positions = [axial(PLACES)[n] for n in order]
    scales = [(0.5 + n / 8, -1024.0 - n) for n in order] if per_frame else []
    file = save(enhanced(positions, rescale=scales), tmp_path / "enhanced.dcm")
    for path in (file, tmp_path):
        volume = read_dicom(path)
        expected = np.stack([hounsfield(p) for p in axial(PLACES)])
        np.testing.assert_allclose(volume.array[0].T, expected, atol=1.5 if per_frame else 0)
        np.testing.assert_allclose(volume.affine[:3, 2:], [[0, 18], [0, 20], [2, -16]])


@pytest.mark.parametrize("name", ["StackID", "TemporalPositionIndex", "FrameAcquisitionNumber"])
def test_stacks_of_an_enhanced_file(tmp_path: Path, name: str) -> None:
    stacks = [1] * len(PLACES) + [2] * len(PLACES)
    contents = [{name: str(stack) if name == "StackID" else stack} for stack in stacks]
    save(enhanced(axial([*PLACES, *PLACES]), contents=contents), tmp_path / "enhanced.dcm")
    series, _ = find_series([tmp_path])
    assert [len(one.frames) for one in series] == [len(PLACES)] * 2


def test_a_tilted_enhanced_file(tmp_path: Path) -> None:
    positions, axes = tilted(PLACES, 15)
    save(enhanced(positions, axes=axes), tmp_path / "enhanced.dcm")
    assert kinds(read_dicom(tmp_path)) == {"gantry_tilt"}


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    for number, position in enumerate(axial(PLACES), start=1):
        pixels = np.full((ROWS, COLUMNS), 100, "<u2").tobytes()
        changes = {"RescaleSlope": number / 4, "RescaleIntercept": 1, "PixelData": pixels}
        write_series(tmp_path, [position], uids=("1.2", "1.3"), first=number, **changes)
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0, 2, 2], 25 * np.arange(1, len(PLACES) + 1) + 1)


def test_bits_beside_the_values_are_cleared(tmp_path: Path) -> None:
    pixels = np.full((ROWS, COLUMNS), 0x5123, "<u2").tobytes()  # an overlay in the upper four bits
    write_series(tmp_path, axial(PLACES), PixelData=pixels, RescaleIntercept=0)
    assert (read_dicom(tmp_path).array == 0x123).all()


def test_monochrome1_is_a_matter_of_display(tmp_path: Path) -> None:
    write_series(tmp_path, axial(PLACES), PhotometricInterpretation="MONOCHROME1")
    assert read_dicom(tmp_path).array.max() == INSIDE


def test_a_ct_without_rescale_is_told(tmp_path: Path) -> None:
    write_series(tmp_path, axial(PLACES), RescaleSlope=None, RescaleIntercept=None)
    assert kinds(read_dicom(tmp_path)) == {"no_rescale"}


def test_run_length_packing(tmp_path: Path) -> None:
    for file in write_series(tmp_path, axial(PLACES)):
        data = pydicom.dcmread(file)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(file)
    assert np.abs(centroid(read_dicom(tmp_path)) - CENTRE).max() < 1.3


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("codec", ["JPEG2000", "JPEG"])
def test_what_pydicom_cannot_unpack_is_unpacked_by_itk(tmp_path: Path, codec: str, signed: bool) -> None:
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    packed.mkdir()
    changes: dict[str, Any] = {}
    if signed:
        pixels = (np.arange(ROWS * COLUMNS) * 9 - 1400).astype("<i2").tobytes()
        changes = {"PixelRepresentation": 1, "PixelData": pixels, "BitsStored": 16, "HighBit": 15}
    for file in write_series(plain, axial(PLACES), **changes):
        pack(file, packed / file.name, codec)
    np.testing.assert_array_equal(read_dicom(packed).array, read_dicom(plain).array)


def test_packed_frames_of_an_enhanced_file(tmp_path: Path) -> None:
    whole, packed = enhanced(axial(PLACES)), []
    for number, frame in enumerate(np.frombuffer(whole.PixelData, "<u2").reshape(-1, ROWS, COLUMNS)):
        file = save(slice_of((0, 0, 0), PixelData=frame.tobytes()), tmp_path / "one" / f"{number}.dcm")
        packed += generate_frames(pack(file, file, "JPEG").PixelData, number_of_frames=1)
    whole.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    whole.PixelData = encapsulate(packed)
    whole["PixelData"].is_undefined_length = True
    volume = read_dicom(save(whole, tmp_path / "enhanced.dcm"))
    np.testing.assert_array_equal(volume.array[0].T, np.stack([hounsfield(p) for p in axial(PLACES)]))


def pack(file: Path, target: Path, codec: str) -> pydicom.Dataset:
    """Pack a slice by ITK's codec, under the header that it had."""
    header = pydicom.dcmread(file)
    stored = np.frombuffer(header.PixelData, "<i2" if header.PixelRepresentation else "<u2").reshape(1, ROWS, COLUMNS)
    writer = itk.GDCMImageIO.New()
    writer.SetCompressor(codec)
    bare = target.with_name("bare.dcm")
    itk.imwrite(itk.image_from_array(stored), str(bare), imageio=writer, compression=True)
    packed = pydicom.dcmread(bare)
    bare.unlink()
    assert packed.file_meta.TransferSyntaxUID.is_compressed
    header.file_meta.TransferSyntaxUID, header.PixelData = packed.file_meta.TransferSyntaxUID, packed.PixelData
    header["PixelData"].is_undefined_length = True
    header.BitsStored, header.HighBit = 16, 15
    header.save_as(target)
    return header


def test_nothing_of_the_patient_is_carried_on(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write_series(folder, axial(PLACES))
    volume = read_dicom(folder)
    assert "anary" not in repr(volume).lower()
    assert volume.header is None


def test_the_block_lies_where_it_was_put(tmp_path: Path) -> None:
    for number, degrees in enumerate([0, 10]):
        positions, axes = tilted(np.arange(-24, 20, 1.0), degrees)
        write_series(tmp_path / str(number), positions, axes)
        volume = read_dicom(tmp_path / str(number))
        voxels = int((volume.array == INSIDE).sum())
        assert voxels * volume.voxel_ml == pytest.approx(8 * HALF.prod() / 1000, rel=0.2)
        assert np.abs(centroid(volume) - CENTRE).max() < 1


@pytest.mark.parametrize("name", sorted(path.stem for path in FAULTS.glob("0[1-8]_*.py")) or ["none"])
def test_the_known_faults(tmp_path: Path, name: str) -> None:
    if not FAULTS.is_dir():
        pytest.skip("the generators are not here: ../shared/faults is absent")
    subprocess.run([sys.executable, str(FAULTS / f"{name}.py"), str(tmp_path / "in")], check=True, env=os.environ)
    reading = Reading(allow_irregular=name.startswith("02"))
    if reading.allow_irregular:
        with pytest.raises(VolumeError, match=r"lie 28.000 mm where 4.000 mm are expected, 6 slices are missing"):
            read_dicom(tmp_path / "in")
    volume = read_dicom(tmp_path / "in", reading=reading)
    assert volume.shape == (56, 56, 41)
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), [3, 3, 4], atol=1e-5)
    np.testing.assert_allclose(centroid(volume), [20, -10, 15], atol=0.1)
