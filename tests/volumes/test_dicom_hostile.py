"""DICOM files that are damaged, cut off, or claim what cannot be: refused in one sentence, before memory is taken."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from monai_transfer.volumes.dicom import find_series, read_dicom
from monai_transfer.volumes.volume import Reading, VolumeError
from tests.volumes.dicom_files import axial, enhanced, item, save, slice_of, write_series

PLACES = np.arange(0.0, 12.0, 2.0)


def refusal(path: Path, **reading: bool) -> VolumeError:
    with pytest.raises(VolumeError) as caught:
        read_dicom(path, reading=Reading(**reading))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "anary" not in message.lower()
    return caught.value


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"ImagePositionPatient": None}, "dicom_tag", r"lacks ImagePositionPatient \(0020,0032\)"),
        ({"ImageOrientationPatient": None}, "dicom_tag", r"lacks ImageOrientationPatient \(0020,0037\)"),
        ({"PixelSpacing": None}, "dicom_tag", r"lacks PixelSpacing \(0028,0030\)"),
        ({"Rows": None}, "dicom_tag", r"lacks Rows \(0028,0010\)"),
        ({"BitsAllocated": 0}, "dicom", "12 of 0 bits"),
        ({"ImagePositionPatient": [1, 2]}, "dicom_tag", "not 3 finite numbers"),
        ({"ImagePositionPatient": ["1", "2", "1e30"]}, "dicom_tag", "not 3 finite numbers"),
        ({"PixelSpacing": [0, 1]}, "dicom_tag", "not positive"),
        ({"PixelSpacing": [-1, 1]}, "dicom_tag", "not positive"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "dicom_tag", "not a pair of perpendicular unit vectors"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "dicom_tag", "not a pair of perpendicular unit vectors"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "dicom_tag", "not a pair of perpendicular unit vectors"),
        ({"RescaleSlope": 0}, "dicom_tag", "RescaleSlope that is 0"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour", "colour image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour", "colour image"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "dicom", "1 of 1 bits"),
        ({"HighBit": 15}, "dicom", "12 of 16 bits"),
        ({"BitsStored": 17}, "dicom", "17 of 16 bits"),
        ({"Rows": 0}, "dicom", "0×20 pixels"),
        ({"Rows": 65535, "Columns": 65535}, "truncated", "8589672450 bytes of pixels are promised"),
        ({"PixelData": bytes(100)}, "truncated", "640 bytes of pixels are promised"),
        ({"PixelData": None}, "truncated", "640 bytes of pixels are promised"),
        ({"NumberOfFrames": 10}, "dicom", "10 frames but says where none of them lie"),
        ({"NumberOfFrames": 2**31 - 1}, "dicom", "frames but says where none"),
        ({"ModalityLUTSequence": item(LUTExplanation="table")}, "dicom", "by a table"),
    ],
)
def test_one_bad_slice_refuses_its_series(tmp_path: Path, changes: dict[str, Any], kind: str, said: str) -> None:
    uids = ("1.2.3.4", "1.2.3.5")
    write_series(tmp_path, axial(PLACES), uids=uids)
    save(slice_of(axial(PLACES)[2], number=3, uids=uids, **changes), tmp_path / "im003.dcm")
    tracemalloc.start()
    error = refusal(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert error.kind == kind
    assert "im003.dcm" in str(error)
    with pytest.raises(VolumeError, match=said):
        read_dicom(tmp_path / "im003.dcm")
    volume = read_dicom(tmp_path, reading=Reading(allow_irregular=True))
    assert volume.shape[2] == len(PLACES)
    assert {note.kind for note in volume.notes} == {"dicom_skipped", "irregular"}


def overwrite(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:offset] + data + raw[offset + len(data) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:100],
        lambda raw: raw[:132],
        lambda raw: raw[:300],
        lambda raw: raw[: len(raw) * 6 // 10],
        lambda raw: raw[:-700],
        lambda raw: raw[:-1],
        lambda raw: raw[132:],
        lambda raw: bytes(4000),
        overwrite(128, b"DICT"),
        overwrite(140, b"\xff" * 60),
        overwrite(500, b"\xff" * 200),
        lambda raw: raw[:132] + b"\xff" * 3000,
        lambda raw: raw[:132] + b"(0020,0032)" * 300,
    ],
)
def test_damaged_bytes(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    files = write_series(tmp_path, axial(PLACES))
    files[2].write_bytes(damage(files[2].read_bytes()))
    assert "im003.dcm" in str(refusal(tmp_path))
    assert "im003.dcm" in str(refusal(files[2]))


@pytest.mark.parametrize("seed", range(40))
def test_bytes_flipped_anywhere_are_refused_or_do_no_harm(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    files = write_series(tmp_path, axial(PLACES))
    raw = np.frombuffer(files[2].read_bytes(), np.uint8).copy()
    header = len(raw) - 640
    raw[random.integers(132, header, 12)] = random.integers(0, 256, 12)
    files[2].write_bytes(raw.tobytes())
    try:
        volume = read_dicom(tmp_path)
    except VolumeError as error:
        assert "\n" not in str(error)  # noqa: PT017 (any outcome is right but another exception)
    else:
        assert volume.shape[2] in (len(PLACES), 2, 3)
        assert np.isfinite(volume.affine).all()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless, "1.2.840.10008.1.2.4.103", "1.2.3.4"])
def test_what_cannot_be_unpacked_names_its_transfer_syntax(tmp_path: Path, syntax: str) -> None:
    for number, position in enumerate(axial(PLACES)):
        data = slice_of(position, number=number, uids=("1.2", "1.3"), PixelData=encapsulate([b"no codestream at all"]))
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == "1.2.3.4":
            data.PixelData = bytes(1000)
            data["PixelData"].is_undefined_length = False
        data.preamble = bytes(128)
        data.save_as(tmp_path / f"{number}.dcm", implicit_vr=False, little_endian=True)
    assert "transfer syntax" in str(refusal(tmp_path))


def test_a_packed_file_that_claims_too_much(tmp_path: Path) -> None:
    data = slice_of((0, 0, 0), Rows=65535, Columns=65535, PixelData=encapsulate([bytes(2000)]))
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    assert refusal(save(data, tmp_path / "one.dcm")).kind == "too_large"


def test_a_deflated_file(tmp_path: Path) -> None:
    data = slice_of((0, 0, 0))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert refusal(save(data, tmp_path / "one.dcm")).kind == "transfer_syntax"


def test_a_single_slice(tmp_path: Path) -> None:
    files = write_series(tmp_path, axial(PLACES))
    assert refusal(files[0]).kind == "single_slice"


def test_a_folder_without_a_volume(tmp_path: Path) -> None:
    assert refusal(tmp_path).kind == "no_volume"
    save(slice_of((0, 0, 0), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), tmp_path / "report.dcm")
    assert "Basic Text SR" in str(refusal(tmp_path))


def test_a_damaged_enhanced_file(tmp_path: Path) -> None:
    whole = enhanced(axial(PLACES))
    for number, change in enumerate(("fewer", "placeless", "gap", "double")):
        data = pydicom.dcmread(save(whole, tmp_path / "whole" / "whole.dcm"))
        groups = data.PerFrameFunctionalGroupsSequence
        if change == "fewer":
            del groups[0]
        elif change == "placeless":
            del groups[1].PlanePositionSequence
        elif change == "gap":
            groups[5].PlanePositionSequence[0].ImagePositionPatient = [-18, -20, 30]
        else:
            groups[5].PlanePositionSequence[0].ImagePositionPatient = [-18, -20, 8]
        error = refusal(save(data, tmp_path / f"{number}.dcm"))
        expected = {"fewer": "dicom", "placeless": "dicom_tag", "gap": "irregular", "double": "double"}
        assert error.kind == expected[change]


def test_series_are_listed_with_their_fault(tmp_path: Path) -> None:
    write_series(tmp_path, axial(PLACES), ImagePositionPatient=None)
    series, notes = find_series([tmp_path])
    assert len(series) == 1
    assert len(series[0].faults) == len(PLACES)
    assert notes == []


def test_links_and_pipes_are_not_opened(tmp_path: Path) -> None:
    write_series(tmp_path, axial(PLACES))
    os.mkfifo(tmp_path / "pipe.dcm")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert read_dicom(tmp_path).shape[2] == len(PLACES)
