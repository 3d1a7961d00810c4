"""The files of a result: label map, probabilities, uncertainty, picture; and what the label numbers mean."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monai_transfer.files import cannot_write, write_text
from monai_transfer.inference.naming import LABELS, PREVIEW, PROBABILITIES, SIDECARS, UNCERTAINTY
from monai_transfer.inference.preview import colour, write_preview
from monai_transfer.inference.segmentation import Segmentation
from monai_transfer.inference.sinks import PROBABILITY_SCALE
from monai_transfer.volumes.writing import write_like


def write_results(result: Segmentation, folder: Path, name: str, *, preview: bool = False) -> list[Path]:
    """Write all that a segmentation holds as ``folder/name…``: all of it or, where that fails, nothing.

    Returns:
        the files, the label map first.

    Raises:
        OSError: when a file cannot be written.
    """
    written: list[Path] = []

    def write(array: np.ndarray, product: str, *, slope: float = 1.0) -> None:
        written.insert(0, folder / f"{name}{product}")
        write_like(array, result.source, written[0], slope=slope)

    try:
        if result.stored_probabilities is not None:
            write(np.moveaxis(result.stored_probabilities, 0, -1), PROBABILITIES, slope=1.0 / PROBABILITY_SCALE)
        if result.entropy is not None:
            write(result.entropy.astype(np.float32), UNCERTAINTY)
        if preview and len(result.source.shape) == 3:
            written.insert(0, folder / f"{name}{PREVIEW}")
            write_preview(result.source.array[0], result.labels, result.affine, written[0])
        write(result.labels, LABELS)  # last, so that where it lies the others do
    except OSError:
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
        try:
            write_text(folder / name, text + "\n")
        except OSError as error:
            raise cannot_write(folder / name, error) from error


def _in_one_line(name: str) -> str:
    """A label's name for tables whose columns are told by spaces and quotes: a bundle may call its labels anything."""
    return " ".join("".join(c if c.isprintable() and c != '"' else " " for c in name).split()) or "_"
