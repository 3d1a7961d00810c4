"""A frame of a DICOM file: where it lies, how its numbers are meant, and what tells it from other frames.

Single slices say this at the top of their file; multi-frame files say it in functional groups, one for each frame and
one that all frames share.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from monai_transfer.volumes.volume import VolumeError

STORAGE = "1.2.840.10008.5.1.4.1.1."
"""How the UIDs of all storage classes begin."""

_CT = {STORAGE + end for end in ("2", "2.1", "2.2")}

_AXES_TOLERANCE = 2e-3
"""How far axes may be from perpendicular unit vectors: some files give three decimals only."""

_FARTHEST_MM = 1e6
"""No scanner is a kilometre wide; beyond that the arithmetic of positions loses the micrometres."""

PARTS = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers", "EchoTime", "DiffusionBValue",
    "NominalPercentageOfCardiacPhase", "TriggerTime",
)  # fmt: skip
"""What tells volumes of one series apart, from the surest sign to the loosest."""


class Kind(NamedTuple):
    """What all frames of one volume share: frames that differ in any of these are never put together."""

    series: str
    frame_of_reference: str
    sop_class: str
    image_type: tuple[str, ...]


@dataclass(frozen=True)
class Storage:
    """How the pixels of a file are stored.

    Attributes:
        shape: rows and columns of a frame.
        bits: bits per voxel, allocated and in use.
        signed: whether the numbers have a sign.
        syntax: UID of the transfer syntax.
        frames: frames in the file.
    """

    shape: tuple[int, int]
    bits: tuple[int, int]
    signed: bool
    syntax: str
    frames: int


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice.

    Attributes:
        path: its file.
        index: its number in the file, from 0.
        position: the centre of its first pixel, LPS mm, ``(3,)``.
        axes: unit vectors along the columns' index and along the rows' index, LPS, ``(2, 3)``.
        spacing: mm between rows, mm between columns.
        storage: how its pixels are stored.
        rescale: slope and intercept; None where the file gives none.
        instance: its number in the series, and the UID of its object.
        kind: what it shares with the other frames of its volume.
        parts: what may tell it from other frames at its place, by name.
    """

    path: Path
    index: int
    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    spacing: tuple[float, float]
    storage: Storage
    rescale: tuple[float, float] | None
    instance: tuple[int, str]
    kind: Kind
    parts: dict[str, str]

    @property
    def is_ct(self) -> bool:
        """Whether its values should be Hounsfield units."""
        return self.kind.sop_class in _CT

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector out of the frame, LPS, ``(3,)``."""
        return np.cross(self.axes[0], self.axes[1])

    @property
    def name(self) -> str:
        """The file, with the frame's number where the file has several."""
        return f"{self.path}, frame {self.index + 1}," if self.storage.frames > 1 else str(self.path)


def frame_of(path: Path, index: int, header: Dataset, storage: Storage) -> Frame:
    """Read what the header of a file says about one of its frames.

    Raises:
        VolumeError: the frame does not say where it lies, or says what cannot be.
    """
    groups = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence") or []
    # A frame's own group goes before the shared one, and both before what stands in the file's top level.
    levels = [groups[index], *shared[:1], header] if groups is not None else [header]
    position = _vector(path, _grouped(levels, "PlanePositionSequence"), "ImagePositionPatient", 3)
    axes = _vector(path, _grouped(levels, "PlaneOrientationSequence"), "ImageOrientationPatient", 6).reshape(2, 3)
    spacing = _vector(path, _grouped(levels, "PixelMeasuresSequence"), "PixelSpacing", 2)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _AXES_TOLERANCE:
        raise VolumeError(
            "dicom_tag",
            f"{path} has an ImageOrientationPatient (0020,0037) that is not a pair of perpendicular unit vectors: "
            "export it again.",
        )
    if (spacing <= 0).any():
        raise VolumeError("dicom_tag", f"{path} has a PixelSpacing (0028,0030) that is not positive: export it again.")
    return Frame(
        path,
        index,
        position,
        axes,
        (float(spacing[0]), float(spacing[1])),
        storage,
        rescale_of(path, _grouped(levels, "PixelValueTransformationSequence")),
        (int(header.get("InstanceNumber") or 0), str(header.get("SOPInstanceUID") or "")),
        Kind(
            harmless_uid(header.get("SeriesInstanceUID")),
            harmless_uid(header.get("FrameOfReferenceUID")),
            sop_class_of(header),
            image_type_of(header, levels),
        ),
        _parts(levels, header),
    )


def _grouped(levels: Sequence[Dataset], name: str) -> Dataset:
    """The item of a functional group that holds for a frame; the file's top level where there is none."""
    for level in levels[:-1]:
        if level.get(name):
            return level[name].value[0]
    return levels[-1]


def required(path: Path, dataset: Dataset, name: str) -> Any:
    """The value of a tag without which a file is no part of a volume.

    Raises:
        VolumeError: it is absent or empty; the message gives its name and number.
    """
    value = dataset.get(name)
    if value is None or value == "":
        tag = pydicom.datadict.tag_for_keyword(name) or 0
        label = f"{name} ({tag >> 16:04x},{tag & 0xFFFF:04x})"
        raise VolumeError("dicom_tag", f"{path} lacks {label}, without which it cannot be read: export it again.")
    return value


def _vector(path: Path, dataset: Dataset, name: str, size: int) -> NDArray[np.float64]:
    raw = required(path, dataset, name)
    try:
        vector = np.array([float(value) for value in raw])
    except (TypeError, ValueError):
        vector = np.array([])
    if vector.shape != (size,) or not np.isfinite(vector).all() or np.abs(vector).max() > _FARTHEST_MM:
        raise VolumeError("dicom_tag", f"{path} has a {name} that is not {size} finite numbers: export it again.")
    return vector


def rescale_of(path: Path, dataset: Dataset) -> tuple[float, float] | None:
    """Slope and intercept of the values; None where a file gives none.

    Raises:
        VolumeError: they are not finite, or the slope is 0.
    """
    if dataset.get("RescaleSlope") is None and dataset.get("RescaleIntercept") is None:
        return None
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    pair = float(1 if slope is None else slope), float(0 if intercept is None else intercept)
    if not all(map(math.isfinite, pair)) or pair[0] == 0:
        message = f"{path} has a RescaleSlope that is 0, or a RescaleIntercept that is not finite: export it again."
        raise VolumeError("dicom_tag", message)
    return pair


def image_type_of(header: Dataset, levels: Sequence[Dataset] = ()) -> tuple[str, ...]:
    """The image type of a file, or of a frame by its functional groups ``levels``."""
    for level in levels[:-1]:
        for name in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
            if level.get(name) and level[name].value[0].get("FrameType"):
                return tuple(str(word) for word in level[name].value[0].FrameType)
    words = header.get("ImageType") or ()
    return tuple(str(word).upper() for word in ((words,) if isinstance(words, str) else words))


def _parts(levels: Sequence[Dataset], header: Dataset) -> dict[str, str]:
    """What tells a frame from others at its place; enhanced files name it otherwise and deeper."""
    content = _grouped(levels, "FrameContentSequence")
    found = {
        "StackID": content.get("StackID"),
        "AcquisitionNumber": content.get("FrameAcquisitionNumber"),
        "TemporalPositionIdentifier": content.get("TemporalPositionIndex"),
        "EchoTime": _grouped(levels, "MREchoSequence").get("EffectiveEchoTime"),
        "DiffusionBValue": _grouped(levels, "MRDiffusionSequence").get("DiffusionBValue"),
    }
    cardiac = _grouped(levels, "CardiacSynchronizationSequence")
    found["NominalPercentageOfCardiacPhase"] = cardiac.get("NominalPercentageOfCardiacPhase")
    found |= {name: header.get(name) for name in PARTS if found.get(name) is None}
    return {name: str(value) for name, value in found.items() if value is not None and str(value)}


def sop_class_of(header: Dataset) -> str:
    """The UID of what kind of object a file is; empty where it does not say."""
    return harmless_uid(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))


def harmless_uid(value: Any) -> str:
    """A UID as the file gives it, without what could do harm in a message, a manifest or a terminal."""
    return re.sub(r"[^0-9A-Za-z._-]", "?", str(value or ""))[:64]
