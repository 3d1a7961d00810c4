"""What one DICOM file says about its frames: where each lies, how it is stored, and which volume it is part of.

Only the tags named here are read, never the pixels, and never a tag that names the patient: what is not read cannot
reach an output.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monai_transfer.volumes.dicom_frames import (
    PARTS,
    STORAGE,
    Frame,
    Storage,
    frame_of,
    harmless_uid,
    image_type_of,
    required,
    sop_class_of,
)
from monai_transfer.volumes.guards import require_file
from monai_transfer.volumes.volume import VolumeError

# Without a handler of its own pydicom's remarks on odd values reach the terminal through logging's last resort.
logging.getLogger("pydicom").addHandler(logging.NullHandler())

_SCANS = {STORAGE + end for end in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130", "13.1.1", "13.1.2")}
"""CT, MR, PET and 3D angiography, single and multi-frame: objects that must say where their frames lie."""

_CAPTURES = {STORAGE + end for end in ("7", "7.2", "7.3")}
"""Secondary captures: volumes where they give a position (many derived scans are stored so), screenshots elsewhere."""

_DIRECTORY = "1.2.840.10008.1.3.10"

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType", "InstanceNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", *PARTS,
)  # fmt: skip

PLAIN = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
"""Transfer syntaxes whose pixels lie in the file as they are."""

_PACKED = 2000
"""No codec packs a whole scan tighter than this; a file that claims more than 64 MB beyond it is not unpacked."""


class NotAScan(Exception):  # noqa: N818 - it is a verdict on a file, not an error
    """The file is sound DICOM but no part of a volume; the message says what it is."""


def read_frames(path: Path) -> list[Frame]:
    """The frames of a DICOM file.

    Raises:
        NotAScan: it is a localizer, a report, a segmentation, a dose or another object that is not a scan.
        VolumeError: it is cut off or damaged, or lacks what a volume needs.
    """
    require_file(path)
    with opened_header(path) as (header, left):
        _require_scan(path, header)
        require_grey_values(path, header)
        storage = storage_of(path, header, left)
        return [frame_of(path, index, header, storage) for index in range(storage.frames)]


@contextmanager
def opened_header(path: Path) -> Iterator[tuple[Dataset, int]]:
    """The tags of a DICOM file that are read, and how many bytes follow them; for a block that makes sense of them.

    Raises:
        VolumeError: the file is packed, or whatever else the header led to in the block: it is cut off or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks; what matters is checked in the block
        try:
            require_plain(path)
            with path.open("rb") as file:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
                left = path.stat().st_size - file.tell()
            yield header, left
        except (NotAScan, VolumeError):
            raise
        except Exception as error:
            # A damaged header fails anywhere in pydicom, with whatever exception the bytes lead to.
            message = f"{path} has a damaged or cut-off DICOM header ({type(error).__name__}): copy or export it again."
            raise VolumeError("unreadable", message) from error


def require_plain(path: Path) -> None:
    """Refuse a deflated file before pydicom unpacks it whole: its few bytes may become any number.

    Raises:
        VolumeError: it is deflated.
    """
    if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        name = DeflatedExplicitVRLittleEndian.name
        raise VolumeError("transfer_syntax", f"{path} is deflated (transfer syntax {name!r}): export it uncompressed.")


def series_of(path: Path) -> str | None:
    """The UID of the series that a file of any kind belongs to, if as much can be read of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            require_plain(path)
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            return harmless_uid(header["SeriesInstanceUID"].value)
    except Exception:
        return None


def _require_scan(path: Path, header: Dataset) -> None:
    uid = sop_class_of(header)
    if not uid:
        required(path, header, "SOPClassUID")
    if uid == _DIRECTORY:
        raise NotAScan("")
    if uid not in _SCANS | _CAPTURES:
        raise NotAScan(f"not a scan but {UID(uid).name.removesuffix(' Storage')!r}")
    if {"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(image_type_of(header)):
        raise NotAScan("a localizer")
    placed = "ImagePositionPatient" in header or "PerFrameFunctionalGroupsSequence" in header
    if uid in _CAPTURES and not placed:
        raise NotAScan("a screenshot without a place in the patient")


def require_grey_values(path: Path, header: Dataset) -> None:
    """See that a file holds grey values and how they are meant.

    Raises:
        VolumeError: they are colours, or given by a table.
    """
    samples, photometric = int(header.get("SamplesPerPixel", 1)), str(header.get("PhotometricInterpretation", ""))
    # MONOCHROME1 says that low values are shown bright; the values themselves mean what they mean.
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        told = f"PhotometricInterpretation {photometric[:16]!r}"
        raise VolumeError("colour", f"{path} is a colour image ({told}): give the scan itself in grey values.")
    if "ModalityLUTSequence" in header:
        message = f"{path} gives its values by a table (ModalityLUTSequence): export it with a RescaleSlope."
        raise VolumeError("dicom", message)


def storage_of(path: Path, header: Dataset, left: int) -> Storage:
    """How the pixels are stored, compared with the ``left`` bytes of the file that can hold them.

    Raises:
        VolumeError: they are stored in a way that is not read, or cut short.
    """
    frames, groups = int(header.get("NumberOfFrames") or 1), header.get("PerFrameFunctionalGroupsSequence")
    if frames != (len(groups) if groups is not None else 1):
        told = f"{len(groups)} of them" if groups is not None else "none of them"
        raise VolumeError("dicom", f"{path} has {frames} frames but says where {told} lie: export it as single slices.")
    rows, columns, bits = (int(required(path, header, name)) for name in ("Rows", "Columns", "BitsAllocated"))
    used = int(header.get("BitsStored") or bits)
    high = int(header.get("HighBit", used - 1))
    if bits not in (8, 16, 32) or not 1 <= used <= bits or high != used - 1 or 0 in (rows, columns) or frames < 1:
        stored = f"{used} of {bits} bits, {rows}×{columns} pixels"
        raise VolumeError("dicom", f"{path} stores its pixels in a way that is not read ({stored}): export it again.")
    syntax = harmless_uid(required(path, header.file_meta, "TransferSyntaxUID"))
    claimed = rows * columns * bits // 8 * frames
    if syntax in PLAIN and left < claimed:
        message = f"{path} is cut short: {claimed} bytes of pixels are promised, {left} are there; copy it again."
        raise VolumeError("truncated", message)
    if syntax not in PLAIN and claimed > max(64 << 20, _PACKED * left):
        message = f"{path} claims {claimed} bytes of pixels, which its {left} bytes cannot hold: the file is damaged."
        raise VolumeError("too_large", message)
    return Storage((rows, columns), (bits, used), bool(header.get("PixelRepresentation", 0)), syntax, frames)
