"""A label map as DICOM SEG, so that a viewer lays it over the series it was made from.

The object refers to the frames of its series and lies where they lie, also where they lean. Each label is a segment
with a code of SNOMED CT where its name says what it is, and with a code of this package's own where it does not: a
wrong code would be worse than none. As DICOM requires, it carries the name and the numbers of the patient on.
"""

import importlib.util
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_transfer.errors import UserError
from monai_transfer.files import replacing
from monai_transfer.machine import versions
from monai_transfer.text import one_line
from monai_transfer.volumes.volume import Volume

if TYPE_CHECKING:
    from monai_transfer.inference.segmentation import Segmentation

ANATOMY = frozenset({
    "liver", "spleen", "kidney", "aorta", "lung", "heart", "brain", "pancreas", "gallbladder", "stomach", "esophagus",
    "duodenum", "bladder", "prostate", "hippocampus", "cerebellum", "thalamus", "bone", "muscle", "fat", "skin",
    "trachea", "colon", "rectum", "uterus", "vertebra", "femur", "hip", "rib", "sternum", "humerus", "clavicle",
    "scapula", "mandible", "eye", "artery", "vein", "inferior_vena_cava", "portal_vein", "adrenal_gland",
    "small_intestine", "brain_stem", "cerebral_cortex", "white_matter", "gray_matter", "cerebrospinal_fluid",
    "spinal_cord", "left_atrium",
})  # fmt: skip
"""Names of labels that mean one structure whatever the image shows. 'ventricle' is not among them: of the heart, or of
the brain?"""

ALTERED = frozenset(["neoplasm", "tumor", "lesion", "edema", "cyst", "necrosis", "nodule", "mass"])
"""Names of labels that mean a change of structure."""

SYNONYMS = {
    "oesophagus": "esophagus", "urinary_bladder": "bladder", "gall_bladder": "gallbladder", "brainstem": "brain_stem",
    "postcava": "inferior_vena_cava", "grey_matter": "gray_matter", "csf": "cerebrospinal_fluid", "tumour": "tumor",
    "oedema": "edema", "small_bowel": "small_intestine", "cortex": "cerebral_cortex", "lungs": "lung",
    "kidneys": "kidney",
}  # fmt: skip

OWN_SCHEME = "99MONAITRANSFER"
"""Coding schemes that begin with 99 are private by the standard."""

_LONGEST_CODE, _LONGEST_LABEL = 16, 64
"""Characters of a code value (SH) and of a segment's label (LO)."""


def require_highdicom() -> None:
    """See that DICOM SEG can be written.

    Raises:
        UserError: the package is missing.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise UserError("--dicom-seg needs the package highdicom: pip install 'monai-transfer[dicom]'.")


def require_series(volume: Volume) -> None:
    """See that a volume has a series that a DICOM SEG can refer to.

    Raises:
        UserError: it was read from another format.
    """
    if not volume.files:
        raise UserError(f"{volume.path} is no DICOM series, which a DICOM SEG refers to: omit --dicom-seg.")


def write_dicom_seg(result: "Segmentation", file: Path) -> None:
    """Write the labels of a volume that was read from DICOM.

    Args:
        result: the segmentation; its source names its files.
        file: what to write.

    Raises:
        UserError: the volume was read from no DICOM series, or its series lacks what DICOM SEG must refer to.
        OSError: the file cannot be written.
    """
    import highdicom
    import pydicom

    require_series(result.source)
    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in result.source.files]
    frames, names = _segments(result)
    places = _places(result)
    for source in sources:
        if "SliceThickness" not in source:  # may be unknown, but highdicom asks for it
            source.SliceThickness = places["pixel_measures"][0].SliceThickness
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty label maps, and of names of patients in another form than DICOM's
        try:
            made = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=frames,
                segmentation_type="BINARY",
                segment_descriptions=[_description(number, name) for number, name in enumerate(names, start=1)],
                series_instance_uid=highdicom.UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="monai-transfer",
                manufacturer_model_name="monai-transfer",
                software_versions=versions()["monai-transfer"],
                device_serial_number="0",
                content_label="SEGMENTATION",
                **places,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = one_line(str(error))[:200]
            found = f"{result.source.path} has headers that no DICOM SEG can refer to ({reason})"
            raise UserError(f"{found}: omit --dicom-seg.") from error
    with replacing(file) as stream:
        made.save_as(stream)


_SERIES_NUMBER = 1000
"""Far above the numbers that scanners give, so that a viewer lists the segmentation after the images."""


def _segments(result: "Segmentation") -> tuple[np.ndarray, list[str]]:
    """Labels (slices, rows, columns) numbered from 1 without gaps, one mask per name where they overlap; the names."""
    overlapping = result.labels.ndim > len(result.source.shape)
    # volumes are (columns, rows, slices), frames (slices, rows, columns)
    labels = np.swapaxes(result.labels, 0, 2)
    if overlapping:
        return np.ascontiguousarray(labels), [result.label_names[number] for number in range(labels.shape[-1])]
    values = [value for value in sorted(result.label_names) if value != 0]
    numbers = np.zeros(int(max(values, default=0)) + 1, np.uint16)
    numbers[values] = np.arange(1, len(values) + 1)
    return numbers[labels], [result.label_names[value] for value in values]


def _places(result: "Segmentation") -> dict[str, Any]:
    """Where each frame lies, by the grid on which the labels are, in the LPS of DICOM."""
    import highdicom

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ result.affine
    columns, rows, step = (affine[:3, axis] for axis in range(3))
    between = [float(np.linalg.norm(rows)), float(np.linalg.norm(columns))]
    orientation = [*columns / between[1], *rows / between[0]]
    normal = np.cross(orientation[:3], orientation[3:])
    thickness = abs(float(normal @ step))
    return {
        "pixel_measures": highdicom.PixelMeasuresSequence(between, thickness, thickness),
        "plane_orientation": highdicom.PlaneOrientationSequence("PATIENT", orientation),
        "plane_positions": [
            highdicom.PlanePositionSequence("PATIENT", affine[:3, 3] + number * step)
            for number in range(result.source.shape[2])
        ],
    }


def _description(number: int, name: str) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    category, meaning, side = coded(name)
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=one_line(name)[:_LONGEST_LABEL] or f"label {number}",
        segmented_property_category=category,
        segmented_property_type=meaning,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="monai-transfer", family=codes.DCM.ArtificialIntelligence, version=versions()["monai-transfer"]
        ),
    )
    if side is not None:
        concept = highdicom.sr.CodedConcept.from_code(side)
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept]
    return described


def coded(name: str) -> tuple[Any, Any, Any]:
    """Category, type and, for one of a pair, side of a label, as codes of DICOM.

    Example:
        >>> category, kind, side = coded("kidney_right")
        >>> kind.meaning, kind.value, side.meaning
        ('Kidney', '64033007', 'Right')
        >>> coded("my organ")[1].scheme_designator
        '99MONAITRANSFER'
    """
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    words = re.findall(r"[a-z]+", name.lower())
    whole = SYNONYMS.get("_".join(words), "_".join(words))
    sides = [] if whole in ANATOMY else [word for word in words if word in ("left", "right")]
    if sides:
        rest = "_".join(word for word in words if word not in sides)
        whole = SYNONYMS.get(rest, rest)
    side = getattr(codes.SCT, sides[0].capitalize()) if len(sides) == 1 else None
    keyword = "".join(word.capitalize() for word in whole.split("_"))
    if whole in ANATOMY and len(sides) < 2:
        return codes.SCT.AnatomicalStructure, getattr(codes.SCT, keyword), side
    if whole in ALTERED and not sides:
        return Code("49755003", "SCT", "Morphologically Altered Structure"), getattr(codes.SCT, keyword), None
    plain = one_line(name)[:_LONGEST_LABEL] or "unnamed"
    value = re.sub(r"[^A-Z0-9_]", "_", plain.upper())[:_LONGEST_CODE]
    return codes.SCT.Tissue, Code(value, OWN_SCHEME, plain), None
