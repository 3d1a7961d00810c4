"""Radiographs in DICOM, as a network that names classes sees them."""

from pathlib import Path

import numpy as np
import pytest

from monai_transfer.datasets import read_exams
from monai_transfer.errors import UserError
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading
from tests.volumes.dicom_files import COLUMNS, ROWS, save, slice_of

DIGITAL = "1.2.840.10008.5.1.4.1.1.1.1"
VALUES = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
PICTURES = Reading(pictures=True)


def _radiograph(file: Path, **changes: object) -> Path:
    placeless = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "RescaleIntercept": None}
    data = slice_of((0, 0, 0), SOPClassUID=DIGITAL, **{**placeless, "RescaleSlope": None, **changes})
    data.PixelData = VALUES.astype("<u2").tobytes()
    return save(data, file)


def test_it_is_read_as_a_picture(tmp_path: Path) -> None:
    volume = read_volume(_radiograph(tmp_path / "a.dcm"), reading=PICTURES)
    assert volume.array.shape == (1, COLUMNS, ROWS)
    np.testing.assert_array_equal(volume.array[0], VALUES.T)


def test_bright_is_always_dense(tmp_path: Path) -> None:
    turned = _radiograph(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_volume(turned, reading=PICTURES).array[0], VALUES.max() - VALUES.T)


@pytest.mark.parametrize(("changes", "said"), [({"NumberOfFrames": 2}, "several frames"), ({"Rows": 99}, "cut short")])
def test_what_is_no_radiograph_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_volume(_radiograph(tmp_path / "a.dcm", **changes), reading=PICTURES)


def test_without_a_place_it_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no DICOM volume"):
        read_volume(_radiograph(tmp_path / "a.dcm"))


def test_a_folder_per_class_may_hold_them(tmp_path: Path) -> None:
    for place in ("healthy/a.dcm", "healthy/b.dcm", "mass/c.dcm"):
        _radiograph(tmp_path / place)
    assert read_exams(tmp_path).counts == {"healthy": 2, "mass": 1}
