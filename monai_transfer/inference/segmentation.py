"""A segmentation: what may be asked of it, what it holds, and how it is mended and written.

Options are checked before anything that takes seconds is imported, so torch and MONAI are not imported here.
"""

import colorsys
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from monai_transfer.errors import UserError
from monai_transfer.files import write_result
from monai_transfer.inference.output_folder import (
    DICOM_SEG,
    LABELS,
    MASKS,
    PREVIEW,
    PROBABILITIES,
    SIDECARS,
    UNCERTAINTY,
    names_apart,
)
from monai_transfer.machine import require_disk
from monai_transfer.options import LabelFormat, Precision, Runtime, validated
from monai_transfer.text import one_line
from monai_transfer.volumes.volume import Reading, Volume

PROBABILITY_SCALE = 65535
"""Stored probabilities are integers from 0 to this."""

_PACKED = {"labels": 0.001, "probabilities": 0.1, "uncertainty": 0.3}
"""Share of its bytes that a compressed result takes at the very least; measured label maps take ten times that."""

_GOLDEN = 0.618033988749895
"""The golden section: steps of it around the circle of hues never come close to an earlier one."""


WindowBatch = Annotated[int, Field(title="--batch", ge=1, le=4096)]


@validated
class Cleaning:
    """What is mended.

    Attributes:
        largest_component: names of labels of which only the largest connected piece is kept; ``("all",)`` for all.
        fill_holes: give background that one label encloses to that label.
        smallest_ml: pieces smaller than this many millilitres become background.

    Example:
        >>> bool(Cleaning()), bool(Cleaning(largest_component=("liver",)))
        (False, True)
    """

    largest_component: tuple[str, ...] = ()
    fill_holes: bool = False
    smallest_ml: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    def __bool__(self) -> bool:
        return bool(self.largest_component) or self.fill_holes or self.smallest_ml > 0


@validated
class SegmentOptions:
    """What may be asked of a segmentation beyond the label map.

    Attributes:
        labels: names of the labels that are wanted; () for all. Where no other label matters less is computed.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        runtime: what computes the network: ``"torch"``, ``"openvino"``, ``"onnx"`` (both on a CPU), or ``"auto"``:
            OpenVINO on a CPU for large volumes where it is installed, else PyTorch.
        fast: let windows overlap by an eighth where the bundle asks for more.
        skip_empty: do not compute windows that hold only air.
        correct: let a bundle that keeps an atlas correct its labels by anatomy and by the volume's intensities.
        probabilities: keep the class probabilities on the native grid.
        uncertainty: keep the entropy of the class probabilities on the native grid.
        estimate_dice: estimate the Dice of each label, and tell where an image is unlike those that the bundle has
            seen, for three further predictions of each image.
        dicom_seg: also write a DICOM SEG object for volumes that were read from DICOM.
        masks: also write a file for each label.
        format: of the label maps: ``"nifti"``, ``"nrrd"``, ``"seg.nrrd"`` (3D Slicer), ``"mha"``, ``"mgz"``, or
            ``"same"`` as the input's (NIfTI for DICOM).
        bids: read and write as BIDS lays data sets out.
        statistics: measure volume, mean and deviation of intensity for each label.
        mirror_axes: axes of test-time mirroring, () for none.
        batch: windows per forward pass; None takes the bundle's, or what the GPU's free memory holds.
        compile: run the network through ``torch.compile``.
        cleaning: what is mended in the finished label map.
        reading: how strictly the volumes are read.

    Example:
        >>> SegmentOptions(mirror_axes=(0, 1, 2), batch=0)
        Traceback (most recent call last):
        monai_transfer.errors.UserError: --batch 0 is not possible: give a whole number from 1 to 4096.
    """

    labels: tuple[str, ...] = ()
    precision: Precision = "float32"
    runtime: Runtime = "auto"
    fast: bool = False
    skip_empty: bool = True
    correct: bool = True
    probabilities: bool = False
    uncertainty: bool = False
    estimate_dice: bool = False
    dicom_seg: bool = False
    masks: bool = False
    format: LabelFormat = "nifti"
    bids: bool = False
    statistics: bool = False
    mirror_axes: tuple[Annotated[int, Field(title="--mirror", ge=0, le=2)], ...] = ()
    batch: WindowBatch | None = None
    compile: bool = False
    cleaning: Cleaning = field(default_factory=Cleaning)
    reading: Reading = field(default_factory=Reading)

    @property
    def for_a_look(self) -> "SegmentOptions":
        """The same for label maps that are not kept."""
        how = {name: getattr(self, name) for name in ("precision", "runtime", "fast", "correct", "reading")}
        return SegmentOptions(**how)


@dataclass
class Segmentation:
    """The result for one volume, on its native grid.

    Attributes:
        labels: (*native shape) of uint8 or uint16; with overlapping (sigmoid) labels one 0/1 mask per label,
            (*native shape, labels).
        affine: voxel to RAS millimetres.
        label_names: name of each label number; of each mask, counted from 0, where labels overlap.
        volumes_ml: millilitres per label name, the background left out.
        seconds: spent on ``read``, ``preprocess``, ``network`` and ``restore``.
        windows: windows computed, and windows in all.
        probabilities: (labels, *native shape), float32, when asked for.
        entropy: (*native shape), 0 certain to 1, when asked for.
        source: the image as it was read.
        judgement: what the segmenter's judge said of it, for the manifest.

    Example:
        >>> scan = Volume(Path("scan.nii"), np.zeros((1, 2, 2, 2), np.int16), np.eye(4))
        >>> labels = np.ones((2, 2, 2), np.uint8)
        >>> certain = np.full((1, 2, 2, 2), PROBABILITY_SCALE, np.uint16)
        >>> found = Segmentation(labels, scan.affine, {1: "liver"}, {"liver": 0.008}, {}, (1, 1), scan, certain)
        >>> float(found.probabilities.max())
        1.0
    """

    labels: np.ndarray
    affine: np.ndarray
    label_names: dict[int, str]
    volumes_ml: dict[str, float]
    seconds: dict[str, float]
    windows: tuple[int, int]
    source: Volume = field(repr=False)
    stored_probabilities: np.ndarray | None = field(default=None, repr=False)
    entropy: np.ndarray | None = field(default=None, repr=False)
    judgement: dict[str, Any] = field(default_factory=dict)

    @property
    def probabilities(self) -> np.ndarray | None:
        """Class probabilities (labels, *native shape) in float32, when they were asked for."""
        if self.stored_probabilities is None:
            return None
        return self.stored_probabilities.astype(np.float32) / PROBABILITY_SCALE

    def masks(self) -> Iterator[tuple[str, np.ndarray]]:
        """A name that can be a file's, and a mask of 0 and 1, for each label but the background."""
        overlapping = self.labels.ndim > len(self.source.shape)
        numbers = [number for number in sorted(self.label_names) if overlapping or number != 0]
        for number, name in zip(numbers, names_apart([[self.label_names[n]] for n in numbers]), strict=True):
            yield name, self.labels[..., number] if overlapping else (self.labels == number).view(np.uint8)


def require_labels(wanted: Collection[str], label_names: Mapping[int, str]) -> None:
    """See that labels exist.

    Raises:
        UserError: one does not; it says which do.
    """
    if unknown := set(wanted) - set(label_names.values()):
        raise UserError(f"There is no label '{min(unknown)}'; the bundle has {', '.join(label_names.values())}.")


def require_room_for_results(folder: Path, volume: Volume, options: SegmentOptions, *, classes: int) -> None:
    """Compare the least that the results of a volume take with the room on the disk.

    Raises:
        UserError: with the numbers.
    """
    native = volume.array[0].size
    needed = native * _PACKED["labels"]
    needed += 2 * classes * native * _PACKED["probabilities"] if options.probabilities else 0
    needed += 4 * native * _PACKED["uncertainty"] if options.uncertainty else 0
    require_disk(folder, needed, f"The results of {volume.path}")


def write_results(
    result: Segmentation, folder: Path, name: str, products: Mapping[str, str] = MappingProxyType({LABELS: LABELS})
) -> list[Path]:
    """Write all that a segmentation holds as ``folder/name…``: all of it or, where that fails, nothing.

    Args:
        result: the segmentation.
        folder: where.
        name: of the case.
        products: what is asked for, and the endings of its files; the label map always is.

    Returns:
        the files, the label map first.

    Raises:
        OSError: when a file cannot be written.
        UserError: when the volume has no DICOM series that a DICOM SEG could refer to.
    """
    from monai_transfer.volumes.reading import write_volume  # nibabel is not needed to name the results

    written: list[Path] = []

    def write(array: np.ndarray, product: str, *, slope: float = 1.0, names: Mapping[int, str] | None = None) -> None:
        written.insert(0, folder / f"{name}{product}")
        if names is not None and not written[0].name.endswith((".nii.gz", ".nii")):
            from monai_transfer.inference.label_files import write_labels  # SimpleITK takes half a second to import

            write_labels(array, written[0], result, names)
        else:
            write_volume(array, written[0], like=result.source, slope=slope, labels=names is not None)

    try:
        if result.stored_probabilities is not None:
            ending = products.get(PROBABILITIES, PROBABILITIES)
            write(np.moveaxis(result.stored_probabilities, 0, -1), ending, slope=1.0 / PROBABILITY_SCALE)
        if result.entropy is not None:
            write(result.entropy.astype(np.float32), products.get(UNCERTAINTY, UNCERTAINTY))
        if PREVIEW in products and len(result.source.shape) == 3:
            from monai_transfer.inference.preview import write_preview  # matplotlib takes a second to import

            written.insert(0, folder / f"{name}{PREVIEW}")
            write_preview(result.source.array[0], result.labels, result.affine, written[0])
        if DICOM_SEG in products:
            from monai_transfer.inference.dicom_seg import write_dicom_seg  # highdicom takes a second to import

            written.insert(0, folder / f"{name}{DICOM_SEG}")
            write_dicom_seg(result, written[0])
        for label, mask in result.masks() if MASKS in products else ():
            write(mask, f"{MASKS}/{label}{products[LABELS]}", names={1: label})
        write(result.labels, products[LABELS], names=result.label_names)  # last, so that where it lies the others do
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def write_sidecars(label_names: Mapping[int, str], folder: Path) -> None:
    """Write ``labels.json``, ``labels.itksnap.txt`` (ITK-SNAP) and ``labels.ctbl`` (3D Slicer) into a folder.

    Raises:
        UserError: when they cannot be written.
    """
    entries = sorted(label_names.items())
    described = {str(n): {"name": name, "colour": list(colour(n))} for n, name in entries}
    snap = ["# ITK-SnAP Label Description File", "# IDX -R- -G- -B- -A-- VIS MSH LABEL"]
    slicer = ["# Color table file labels.ctbl", f"# {len(entries)} values"]
    for number, name in entries:
        red, green, blue = colour(number)
        seen = int(number != 0)
        plain = _in_one_line(name)
        snap.append(f'{number:5d} {red:5d} {green:4d} {blue:4d} {seen:8d} {seen:2d} {seen:2d}    "{plain}"')
        slicer.append(f"{number} {plain.replace(' ', '_')} {red} {green} {blue} {255 * seen}")
    texts = (json.dumps(described, indent=2), "\n".join(snap), "\n".join(slicer))
    for name, text in zip(SIDECARS, texts, strict=True):
        write_result(folder / name, text + "\n")


def _in_one_line(name: str) -> str:
    """A label's name for tables whose columns are told by spaces and quotes: a bundle may call its labels anything."""
    return " ".join(one_line(name).replace('"', " ").split()) or "_"


def colour(label: int) -> tuple[int, int, int]:
    """A colour for a label: hues a golden section apart, so that neighbours differ; black for 0."""
    if label == 0:
        return (0, 0, 0)
    hue = (0.02 + (label - 1) * _GOLDEN) % 1.0
    saturation, value = (0.75, 0.95) if label % 2 else (0.55, 0.80)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
