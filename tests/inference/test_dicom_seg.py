"""A label map as DICOM SEG: read back by highdicom and by hand it is the label map, and it refers to its series."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from monai_transfer.errors import UserError
from monai_transfer.inference import SegmentOptions, dicom_seg
from monai_transfer.inference.dicom_seg import ALTERED, ANATOMY, coded
from monai_transfer.workflows.segmenting import segment
from tests.inference.conftest import MakeBundle, body, write_nifti
from tests.volumes.dicom_files import AXIAL, CORONAL, axial, enhanced, save, tilted, write_series

highdicom = pytest.importorskip("highdicom")
PLACES = np.arange(-20.0, 16.0, 1.5)
OPTIONS = SegmentOptions(dicom_seg=True)
NAMES = {"0": "background", "1": "liver", "2": "kidney_right", "3": "my organ"}
STUDY = {"StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "", "StudyID": "1", "SeriesNumber": 3}
PATIENT = {"PatientBirthDate": "", "PatientSex": "", "ReferringPhysicianName": "", "Manufacturer": "", "Modality": "CT"}


def by_hand(file: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """The label map from positions of frames and numbers of segments alone, as a reader without highdicom sees them."""
    data = pydicom.dcmread(file)
    labels = np.zeros(shape, np.uint8)
    pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    for frame, mask in zip(data.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float) * [-1, -1, 1]
        first = np.linalg.inv(affine) @ np.append(position, 1)
        np.testing.assert_allclose(first[:2], 0, atol=1e-3)
        labels[..., round(float(first[2]))][mask.T > 0] = number
    return labels


@pytest.mark.parametrize(("degrees", "axes"), [(0, AXIAL), (20, None), (0, CORONAL)])
def test_it_is_the_label_map(
    tmp_path: Path, make_bundle: MakeBundle, degrees: float, axes: tuple[float, ...] | None
) -> None:
    positions, leaning = tilted(PLACES, degrees)
    if axes == CORONAL:
        positions = [(-18.0, float(y), 20.0) for y in PLACES]
    write_series(tmp_path / "scan", positions, axes or leaning, **STUDY, **PATIENT)
    result = segment(tmp_path / "scan", make_bundle(channels=NAMES), tmp_path / "out", device="cpu", options=OPTIONS)
    assert [case["error"] for case in result["cases"]] == [None]
    image = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    labels = np.asanyarray(image.dataobj)
    assert set(np.unique(labels)) >= {0, 2}
    file = tmp_path / "out" / "scan_seg.dcm"
    np.testing.assert_array_equal(by_hand(file, labels.shape, image.affine), labels)

    seg = highdicom.seg.segread(file)
    series = [pydicom.dcmread(path, stop_before_pixels=True) for path in (tmp_path / "scan").iterdir()]
    assert {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        one.SOPInstanceUID for one in series
    }
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == series[0].SeriesInstanceUID
    assert (seg.PatientID, seg.StudyInstanceUID) == (series[0].PatientID, series[0].StudyInstanceUID)
    assert [item.SegmentLabel for item in seg.SegmentSequence] == list(NAMES.values())[1:]
    right = seg.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert (right.CodeValue, right.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("64033007", "Right")
    if degrees == 0:  # highdicom itself knows no volume of leaning frames
        volume = seg.get_volume(combine_segments=True)
        grid = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
        for index in np.argwhere(volume.array > 0)[::50]:
            voxel = np.linalg.inv(image.affine) @ grid @ np.append(index, 1)
            assert labels[tuple(np.rint(voxel[:3]).astype(int))] == volume.array[tuple(index)]
        assert (volume.array > 0).sum() == (labels > 0).sum()


def test_enhanced_multi_frame_files_too(tmp_path: Path, make_bundle: MakeBundle) -> None:
    data = enhanced(axial(PLACES))
    for name, value in {**STUDY, **PATIENT}.items():
        setattr(data, name, value)
    file = save(data, tmp_path / "scan.dcm")
    result = segment(file, make_bundle(channels=NAMES), tmp_path / "out", device="cpu", options=OPTIONS)
    assert [case["error"] for case in result["cases"]] == [None]
    image = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    labels = np.asanyarray(image.dataobj)
    np.testing.assert_array_equal(by_hand(tmp_path / "out" / "scan_seg.dcm", labels.shape, image.affine), labels)


def test_other_formats_and_poor_headers_are_refused_one_by_one(tmp_path: Path, make_bundle: MakeBundle) -> None:
    write_series(tmp_path / "scan", axial(PLACES), StudyInstanceUID=None)
    ct = write_nifti(tmp_path / "ct.nii.gz", body((20, 20, 20)))
    given = [ct, tmp_path / "scan"]
    result = segment(given, make_bundle(channels=NAMES), tmp_path / "out", device="cpu", options=OPTIONS)
    errors = {case["case"]: case["error"] for case in result["cases"]}
    assert "is no DICOM series" in errors["ct"]
    assert "no DICOM SEG can refer to" in errors["scan"]
    assert not list((tmp_path / "out").glob("*.nii.gz")) + list((tmp_path / "out").glob("*.dcm"))


def test_the_package_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "scan", axial(PLACES))
    monkeypatch.setattr(dicom_seg.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"monai-transfer\[dicom\]"):
        segment(tmp_path / "scan", tmp_path / "none", tmp_path / "out", options=OPTIONS)


def test_every_known_name_has_its_code() -> None:
    for name in ANATOMY | ALTERED:
        _, kind, side = coded(name)
        assert (kind.scheme_designator, side) == ("SCT", None), name


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("left kidney", "Kidney", "Left"),
        ("Lung_Right", "Lung", "Right"),
        ("left atrium", "Left atrium", None),
        ("grey matter", "Gray Matter", None),
        ("tumour", "Tumor", None),
        ("left ventricle", None, None),
        ("ventricle", None, None),
        ("left right kidney", None, None),
        ("肝臓", None, None),
    ],
)
def test_codes_of_names(name: str, meaning: str | None, side: str | None) -> None:
    _, kind, modifier = coded(name)
    assert (modifier.meaning if modifier else None) == side
    if meaning is None:
        assert kind.scheme_designator == "99MONAITRANSFER"
    else:
        assert kind.meaning == meaning
