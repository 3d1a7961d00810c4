"""What is measured of each label: its volume, and mean and deviation of the intensities in it."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_transfer.files import write_result
from monai_transfer.text import csv_cell

if TYPE_CHECKING:
    from monai_transfer.inference.segmentation import Segmentation

COLUMNS = ("case", "label", "volume_ml", "channel", "mean", "deviation")


def label_statistics(result: "Segmentation", channels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Measure every label of a segmentation on the native grid.

    Args:
        result: the segmentation.
        channels: name of each channel of its image.

    Returns:
        Name of a label -> ``volume_ml``, and ``channels``: name -> ``mean`` and ``deviation`` (the population's) of the
        intensities, in the image's own unit; None where the label is absent.
    """
    measured: dict[str, dict[str, Any]] = {
        name: {"volume_ml": volume, "channels": {}} for name, volume in result.volumes_ml.items()
    }
    where = {name: place for name, place in _places(result) if name in measured}
    for channel, image in zip(channels, result.source.array, strict=True):
        for name, found in measured.items():
            box, mask = where.get(name, (None, None))
            values = image[box][mask].astype(np.float64) if mask is not None else np.empty(0)
            figures = (values.mean(), values.std()) if values.size else (None, None)
            mean, deviation = (None if figure is None else round(float(figure), 6) for figure in figures)
            found["channels"][channel] = {"mean": mean, "deviation": deviation}
    return measured


def _places(result: "Segmentation") -> Iterator[tuple[str, tuple[Any, NDArray[np.bool_]]]]:
    """Name, and the box with the mask in it, of each label that is there: a mask of the whole volume takes seconds."""
    if result.labels.ndim > len(result.source.shape):
        for place, name in result.label_names.items():
            mask = result.labels[..., place] > 0
            yield name, (..., mask)
        return
    for value, box in enumerate(ndimage.find_objects(result.labels), start=1):
        if box is not None and value in result.label_names:
            yield result.label_names[value], (box, result.labels[box] == value)


def write_statistics(entries: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Write the statistics of all cases, a line per case, label and channel; what is absent is an empty field.

    Args:
        entries: of a manifest; those without statistics are left out.
        file: the CSV to write.

    Raises:
        UserError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for entry in entries:
        for label, one in entry.get("statistics", {}).items():
            for channel, found in one["channels"].items():
                cells = (entry["case"], label, one["volume_ml"], channel, found["mean"], found["deviation"])
                table.writerow([csv_cell(cell) for cell in cells])
    write_result(file, text.getvalue())
