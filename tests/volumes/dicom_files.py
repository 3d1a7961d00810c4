"""Writing small DICOM series for the tests: a block in air, whose place is known, in frames laid anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
MR = "1.2.840.10008.5.1.4.1.1.4"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ROWS, COLUMNS, BETWEEN_ROWS, BETWEEN_COLUMNS = 16, 20, 2.5, 2.0
ORIGIN = (-18.0, -20.0)
CENTRE, HALF = np.array([4.0, 5.0, -3.0]), np.array([8.0, 7.0, 6.0])  # of the block, RAS mm
INSIDE = 200


def hounsfield(position: Sequence[float], axes: Sequence[float] = AXIAL) -> np.ndarray:
    """One frame, (rows, columns): 200 in the block, -1000 elsewhere."""
    row, column = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    lps = np.array(position) + column[..., None] * BETWEEN_COLUMNS * np.array(axes[:3])
    lps = lps + row[..., None] * BETWEEN_ROWS * np.array(axes[3:])
    inside = (np.abs(lps * [-1, -1, 1] - CENTRE) <= HALF).all(-1)
    return np.where(inside, INSIDE, -1000)


def axial(places: Sequence[float]) -> list[tuple[float, float, float]]:
    """Positions of upright axial slices."""
    return [(*ORIGIN, float(z)) for z in places]


def tilted(places: Sequence[float], degrees: float) -> tuple[list[tuple[float, float, float]], tuple[float, ...]]:
    """Positions and axes of frames that lean while the table moves along z."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    positions = [(ORIGIN[0], ORIGIN[1] * cosine, z + ORIGIN[1] * sine) for z in places]
    return positions, (1.0, 0.0, 0.0, 0.0, float(cosine), float(sine))


def slice_of(
    position: Sequence[float], axes: Sequence[float] = AXIAL, *, number: int = 1, uids: tuple[str, str] | None = None,
    **changes: Any,
) -> Dataset:  # fmt: skip
    """A CT slice; tags among ``changes`` are set, or taken away where they are None."""
    series, frame_of_reference = uids or (generate_uid(), generate_uid())
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = changes.get("SOPClassUID", CT), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = "Canary^Secret", "CANARY-ID"
    data.SeriesInstanceUID, data.FrameOfReferenceUID, data.StudyInstanceUID = series, frame_of_reference, "1.2.3"
    data.ImageType, data.InstanceNumber, data.AcquisitionNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], number, 1
    data.Rows, data.Columns, data.PixelSpacing = ROWS, COLUMNS, [BETWEEN_ROWS, BETWEEN_COLUMNS]
    data.ImagePositionPatient = [f"{value:.6f}" for value in position]
    data.ImageOrientationPatient = [f"{value:.9f}" for value in axes]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.RescaleIntercept, data.RescaleSlope = 16, 12, 11, -1024, 1
    data.PixelData = (hounsfield(position, axes) + 1024).astype("<u2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


def write_series(
    folder: Path, positions: Sequence[Sequence[float]], axes: Sequence[float] = AXIAL, *,
    uids: tuple[str, str] | None = None, first: int = 1, prefix: str = "im", suffix: str = ".dcm", **changes: Any,
) -> list[Path]:  # fmt: skip
    """A series of single slices, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    uids = uids or (generate_uid(), generate_uid())
    files = []
    for number, position in enumerate(positions, start=first):
        file = folder / f"{prefix}{number:03d}{suffix}"
        save(slice_of(position, axes, number=number, uids=uids, **changes), file)
        files.append(file)
    return files


def save(data: Dataset, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(file, enforce_file_format=True)
    return file


def item(**values: Any) -> Items:
    """A sequence of one item."""
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return Items([data])


def enhanced(
    positions: Sequence[Sequence[float]], *, axes: Sequence[float] = AXIAL, rescale: Sequence[tuple[float, float]] = (),
    contents: Sequence[dict[str, Any]] = (), **changes: Any,
) -> Dataset:  # fmt: skip
    """A multi-frame CT, each frame with its own position, and its own rescale and content where given."""
    data = slice_of(positions[0], axes, SOPClassUID=ENHANCED_CT)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    data.NumberOfFrames = len(positions)
    scales = rescale or [(1.0, -1024.0)] * len(positions)
    frames = [(hounsfield(p, axes) - b) / m for p, (m, b) in zip(positions, scales, strict=True)]
    data.PixelData = np.stack(frames).round().astype("<u2").tobytes()
    shared, groups = Dataset(), []
    shared.PixelMeasuresSequence = item(PixelSpacing=[BETWEEN_ROWS, BETWEEN_COLUMNS])
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(axes))
    for number, (position, (slope, intercept)) in enumerate(zip(positions, scales, strict=True)):
        group = Dataset()
        group.PlanePositionSequence = item(ImagePositionPatient=list(position))
        group.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=intercept)
        if contents:
            group.FrameContentSequence = item(**contents[number])
        groups.append(group)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = Items([shared]), Items(groups)
    for name, value in changes.items():
        setattr(data, name, value)
    return data
