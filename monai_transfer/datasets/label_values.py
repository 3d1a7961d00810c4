"""What a label map holds: its values, which of them lie in one piece, and whether those of a set go together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_transfer.datasets.cases import Case, Fault
from monai_transfer.datasets.descriptions import LARGEST_VALUE
from monai_transfer.errors import UserError

ROUNDING = 1e-3
"""How far a value may lie off a whole number: scaling by a slope leaves 0.99999, resampling leaves far more."""

_MOST_VALUES = 1000
"""The largest atlases have a few hundred labels; each is an output channel of the network."""

_WHITE = (127, 128, 254, 255, 32767, 65535)
"""What programs for pictures write for "inside", where others write 1."""

_SPECKS = 0.005
"""Share of a label beside its largest piece that is the work of a slipped pencil and no piece."""


class LabelValueError(UserError):
    """A label map holds values that are not labels."""


@dataclass(frozen=True)
class LabelMap:
    """What is kept of a label map.

    Attributes:
        case: the case that it belongs to.
        path: the file.
        counts: label value -> voxels.
        whole: the values whose voxels hang together.
        rounded: how far the values were off whole numbers at most; 0 for whole ones.

    Example:
        >>> case = Case("a", (Path("a.nii"),), Path("l.nii"))
        >>> LabelMap(case, Path("l.nii"), {0: 90, 255: 10}).foreground
        {255}
    """

    case: Case
    path: Path
    counts: dict[int, int]
    rounded: float = 0.0
    whole: frozenset[int] = frozenset()

    @property
    def foreground(self) -> set[int]:
        """The values but 0."""
        return self.counts.keys() - {0}


def read_values(case: Case, path: Path, voxels: NDArray[Any]) -> LabelMap:
    """Count the values of a label map, rounding what is nearly whole.

    Raises:
        LabelValueError: values are no labels, or too many.
    """
    labels, off = as_labels(path, voxels)
    counts = np.bincount(labels.ravel(order="K"))
    values = np.flatnonzero(counts)
    if len(values) > _MOST_VALUES:
        raise LabelValueError(f"{path} has {len(values)} different values, as an image has: give the label map.")
    return LabelMap(case, path, {int(value): int(counts[value]) for value in values}, off, in_one_piece(labels))


def as_labels(path: Path, voxels: NDArray[Any]) -> tuple[NDArray[np.uint16], float]:
    """The voxels as labels, and how far they were off whole numbers at most.

    Args:
        path: the file that they come from, for the messages.
        voxels: of any shape.

    Raises:
        LabelValueError: values are negative, above :data:`~monai_transfer.datasets.descriptions.LARGEST_VALUE`,
            or no whole numbers.

    Example:
        >>> as_labels(Path("l.nii"), np.array([0, 1.9999]))[0].tolist()
        [0, 2]
    """
    low, high = float(voxels.min()), float(voxels.max())
    if low < -ROUNDING:
        raise LabelValueError(
            f"{path} has the label value {low:g}: labels are whole numbers from 0 up, so renumber it."
        )
    # Looked at before anything is counted: counting needs memory for every value up to the largest.
    if high > LARGEST_VALUE + ROUNDING:
        message = (
            f"{path} has the label value {high:.10g}, above {LARGEST_VALUE}: is it a label map? If so, renumber it."
        )
        raise LabelValueError(message)
    off = 0.0
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        distance = np.abs(voxels - whole)
        off = float(distance.max())
        if not off <= ROUNDING:  # so that NaN is refused too
            raise LabelValueError(_broken(path, float(voxels.flat[int(distance.argmax())]), low, high))
        voxels = whole
    return voxels.astype(np.uint16), off


def _broken(path: Path, value: float, low: float, high: float) -> str:
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return (
            f"{path} holds probabilities (such as {value:.4g}) and no labels: write 1 where they are above 0.5, else 0."
        )
    return f"{path} has values that are not whole numbers ({value:.6g}): resample labels with nearest neighbour."


def judge_values(
    maps: Sequence[LabelMap], label_names: Mapping[int, str], root: Path
) -> tuple[list[Fault], list[Fault]]:
    """What is wrong, and what is only odd, about the label maps of a data set.

    A map without foreground is a healthy subject among others, but a data set of nothing else teaches nothing.

    Args:
        maps: the label maps that could be counted.
        label_names: label value -> name; empty when nobody wrote them down.
        root: the data set, for the messages.

    Returns:
        Faults and warnings.
    """
    faults, warnings = [], []
    white = _white_masks(maps, label_names)
    faults += white
    all_empty = not any(label.foreground for label in maps)
    for label in maps:
        unknown = sorted(label.counts.keys() - label_names.keys())
        if not label.foreground and all_empty:
            message = f"{label.path} is empty (all 0): label the image, or remove the file to use it as unlabelled."
            faults.append(Fault(label.path, label.case.name, "label_empty", message))
        elif not label.foreground:
            message = f"{label.path} is empty (all 0): the case is used as one without anything to find."
            warnings.append(Fault(label.path, label.case.name, "label_empty", message))
        elif label_names and unknown and not white:
            values = ", ".join(str(value) for value in unknown[:5])
            message = (
                f"{label.path} has label value(s) {values} without a name: name them in dataset.json or remove them."
            )
            faults.append(Fault(label.path, label.case.name, "label_names", message))
        if label.rounded:
            message = f"{label.path} has values up to {label.rounded:.1g} off whole numbers: they are rounded."
            warnings.append(Fault(label.path, label.case.name, "label_rounded", message))
    present = {value for label in maps for value in label.counts}
    absent = [name for value, name in label_names.items() if value and value not in present]
    if absent and not all_empty:
        message = f"{root} names labels that no case has: {', '.join(absent)}."
        warnings.append(Fault(root, "", "label_absent", message))
    return faults, warnings


def _white_masks(maps: Sequence[LabelMap], label_names: Mapping[int, str]) -> list[Fault]:
    """The fault of 0/255 masks among 0/1 masks, which would be taken for two different organs."""
    for white in maps:
        value = max(white.foreground, default=0)
        if white.foreground != {value} or value not in _WHITE or value in label_names:
            continue
        plain = next((label for label in maps if 1 in label.foreground and value not in label.foreground), None)
        if plain is not None:
            message = f"{white.path} marks its foreground with {value} but {plain.path} with 1"
            message += ": write the same value into both."
            return [Fault(white.path, white.case.name, "label_mix", message)]
    return []


def keep_pieces(mask: NDArray[np.bool_], *, only_largest: bool, smallest: float = 0.0) -> NDArray[np.bool_]:
    """The pieces of a mask that have ``smallest`` voxels, or the largest of them only.

    Example:
        >>> keep_pieces(np.array([True, False, True, True]), only_largest=True).tolist()
        [False, False, True, True]
    """
    pieces, sizes = pieces_of(mask)
    keep = sizes >= max(smallest, 1)
    if only_largest:
        last = len(sizes) - 1 - sizes[::-1].argmax()  # of equal ones, as MONAI does
        keep &= np.arange(len(sizes)) == last
    return np.asarray(keep[pieces])


def in_one_piece(labels: NDArray[Any]) -> frozenset[int]:
    """The values of a label map ``(X, Y, Z)`` whose voxels hang together, but for specks.

    Example:
        >>> sorted(in_one_piece(np.array([[1, 1, 0, 2], [0, 0, 0, 0], [1, 0, 3, 3]])))
        [2, 3]
    """
    found = set()
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            _, sizes = pieces_of(labels[box] == number)
            if sizes.max() >= (1 - _SPECKS) * sizes.sum():
                found.add(number)
    return frozenset(found)


def pieces_of(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The number of the piece of each voxel, and the voxels of each, none of them for number 0, the background.

    What touches at a corner is of one piece.
    """
    pieces, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return pieces, sizes


def require_one_meaning(
    known: Mapping[int, str], data: Mapping[int, str], *, known_in: str | Path, data_in: str | Path = "the data"
) -> None:
    """See that no label value has two names; ``label_3`` does not count as one.

    Raises:
        UserError: one has.
    """
    for value, name in sorted(data.items()):
        if name not in (f"label_{value}", known.get(value, name)):
            raise UserError(
                f"Label {value} is {name!r} in {data_in} and {known[value]!r} in {known_in}: renumber the data's "
                "labels so that one value means one thing."
            )
