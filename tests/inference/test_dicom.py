"""DICOM from a folder to a label map: which cases there are, and where their labels lie."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_transfer.errors import UserError
from monai_transfer.inference import SegmentOptions, find_cases
from monai_transfer.volumes.volume import Reading
from monai_transfer.workflows.segmenting import segment
from tests.inference.conftest import MakeBundle
from tests.volumes.dicom_files import CENTRE, axial, save, slice_of, tilted, write_series

PLACES = np.arange(-20.0, 16.0, 1.5)
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.mark.parametrize("degrees", [0, 20])
def test_labels_lie_where_the_tilted_frames_lie(tmp_path: Path, make_bundle: MakeBundle, degrees: float) -> None:
    positions, axes = tilted(PLACES, degrees)
    write_series(tmp_path / "scan", positions, axes)
    result = segment(tmp_path / "scan", make_bundle(), tmp_path / "out", device="cpu")
    assert [case["error"] for case in result["cases"]] == [None]
    image = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    # The block of 200 HU is nearest to the third of the four bands of the bundle's window.
    found = np.argwhere(np.asanyarray(image.dataobj) == 2)
    assert np.abs((image.affine @ np.append(found.mean(0), 1))[:3] - CENTRE).max() < 1.25  # half a row
    shear = image.affine[:3, 1] @ image.affine[:3, 2] / np.prod(np.linalg.norm(image.affine[:3, 1:3], axis=0))
    assert abs(shear) == pytest.approx(np.sin(np.radians(degrees)), abs=1e-5)


def test_nothing_of_the_patient_reaches_a_result(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_series(tmp_path / "scan", axial(PLACES))
    segment(tmp_path / "scan", make_bundle(), tmp_path / "out", device="cpu")
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            image = nibabel.load(file).header.binaryblock if file.name.endswith(".nii.gz") else b""
            assert b"anary" not in (file.read_bytes() + image)


def test_cases_of_nested_folders(tmp_path: Path) -> None:
    write_series(tmp_path / "a" / "one", axial(PLACES), suffix="")
    write_series(tmp_path / "a" / "two", axial(PLACES))
    write_series(tmp_path / "a" / "two", axial(PLACES), prefix="other")
    save(slice_of((0, 0, 0), SOPClassUID=REPORT), tmp_path / "a" / "two" / "report.dcm")
    save(slice_of((0, 0, 0), SOPClassUID=REPORT), tmp_path / "reports" / "report.dcm")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert [case.name for case in find_cases([tmp_path]).cases] == ["one", "two_1", "two_2"]
    for case in find_cases([tmp_path]).cases:
        assert case.read().shape[2] == len(PLACES)


@pytest.mark.parametrize("place", [".", "./", "../series", "../series/."])
def test_a_series_where_one_stands_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    write_series(tmp_path / "series", axial(range(0, 20, 2)))
    monkeypatch.chdir(tmp_path / "series")
    (case,) = find_cases([Path(place)]).cases
    assert case.name == "series"


def test_a_folder_of_reports_is_no_case(tmp_path: Path) -> None:
    save(slice_of((0, 0, 0), SOPClassUID=REPORT), tmp_path / "a" / "report.dcm")
    with pytest.raises(UserError, match=r"report\.dcm was left out \(it is not a scan but 'Basic Text SR'\)"):
        find_cases([tmp_path])
    write_series(tmp_path / "b", axial(PLACES))
    found = find_cases([tmp_path])
    assert [case.name for case in found.cases] == ["b"]
    assert [skipped.path for skipped in found.skipped] == [tmp_path / "a" / "report.dcm"]


def test_a_bad_series_fails_alone(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_series(tmp_path / "in" / "bad", axial([z for z in PLACES if z != PLACES[5]]))
    write_series(tmp_path / "in" / "good", axial(PLACES))
    segment(tmp_path / "in", make_bundle(), tmp_path / "out", device="cpu")
    cases = {case["case"]: case for case in json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]}
    assert cases["good"]["status"] == "ok"
    assert "lie 3.000 mm where 1.500 mm are expected, 1 slice is missing there" in cases["bad"]["error"]


def test_missing_slices_are_interpolated_where_that_is_allowed(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_series(tmp_path / "scan", axial([z for z in PLACES if z != PLACES[5]]))
    options = SegmentOptions(reading=Reading(allow_irregular=True))
    result = segment(tmp_path / "scan", make_bundle(), tmp_path / "out", device="cpu", options=options)
    (case,) = result["cases"]
    assert case["status"] == "ok"
    assert any("1 of 24 slices are interpolated" in warning for warning in case["warnings"])
    assert nibabel.load(tmp_path / "out" / "scan.nii.gz").shape[2] == len(PLACES)
