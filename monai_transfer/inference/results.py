"""The results of a run: what they are called, that there is room for them, and how they are written.

The label map of a case is ``NAME.nii.gz``; what may be asked for beside it is ``NAME_probabilities.nii.gz`` and so on.
A case called ``x_probabilities`` would therefore write over the side product of ``x``. So names are given to all cases
at once, and each is given only where *all* its files are still free, whether or not they are asked for this time: the
names then do not depend on the options.
"""

import colorsys
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monai_transfer.files import cannot_write, write_text
from monai_transfer.machine import require_disk
from monai_transfer.text import one_line
from monai_transfer.volumes.volume import Volume

if TYPE_CHECKING:
    from monai_transfer.inference.segmentation import Segmentation

LABELS = ".nii.gz"
PROBABILITIES = "_probabilities.nii.gz"
UNCERTAINTY = "_uncertainty.nii.gz"
PREVIEW = "_preview.png"
PRODUCTS = (LABELS, PROBABILITIES, UNCERTAINTY, PREVIEW)
"""What may follow the name of a case."""

PROBABILITY_SCALE = 65535
"""Stored probabilities are integers from 0 to this."""

MANIFEST = "manifest.json"
SIDECARS = ("labels.json", "labels.itksnap.txt", "labels.ctbl")
_LONGEST = 160
"""Bytes of a case's name. File systems allow 255; viewers and converters add endings of their own to the results."""

_HARMFUL = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
"""What some file system forbids, a terminal obeys, or turns the direction of writing round."""

_DEVICES = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
"""Names that open a device on Windows, whatever their ending."""

_PACKED = {"labels": 0.001, "probabilities": 0.1, "uncertainty": 0.3}
"""Share of its bytes that a compressed result takes at the very least; measured label maps take ten times that."""

_GOLDEN = 0.618033988749895
"""The golden section: steps of it around the circle of hues never come close to an earlier one."""


def harmless(name: str) -> str:
    """A name that every file system takes and no shell, viewer or terminal trips over.

    Example:
        >>> harmless("a/b: c?")
        'a_b_ c_'
        >>> harmless("CON"), harmless(" .hidden. "), harmless("")
        ('CON_', 'hidden', 'case')
    """
    plain = _HARMFUL.sub("_", unicodedata.normalize("NFC", name)).strip(" .").lstrip("-")
    plain = f"{plain}_" if _DEVICES.match(plain) else plain or "case"
    if len(plain.encode()) <= _LONGEST:
        return plain
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain.encode()[: _LONGEST - 9].decode(errors='ignore').rstrip()}-{digest}"


def files_of(name: str) -> list[str]:
    """All files that a case of this name may have."""
    return [name + product for product in PRODUCTS]


def names_apart(wishes: Sequence[Sequence[str]]) -> list[str]:
    """Give each case a name of which no file meets that of another, upper and lower case being the same.

    Args:
        wishes: for each case the names to try, the plainest first. A first wish that several cases share is nobody's.

    Returns:
        one name per case; with a number at its end where all wishes were taken.

    Example:
        >>> names_apart([["x"], ["x_probabilities"], ["scan", "a_scan"], ["SCAN", "b_SCAN"]])
        ['x', 'x_probabilities_2', 'a_scan', 'b_SCAN']
    """
    wishes = [[harmless(wish) for wish in each] for each in wishes]
    first = Counter(_key(each[0]) for each in wishes)
    taken = {_key(name) for name in (MANIFEST, *SIDECARS)}
    names: dict[int, str] = {}
    # Those whose plain name is theirs alone choose first, so that a numbered name never takes it from them.
    shared = [first[_key(each[0])] > 1 for each in wishes]
    for case in sorted(range(len(wishes)), key=lambda index: shared[index]):
        wanted = wishes[case][1:] or wishes[case] if shared[case] else wishes[case]
        names[case] = next(name for name in _numbered(wanted) if taken.isdisjoint(map(_key, files_of(name))))
        taken |= {_key(file) for file in files_of(names[case])}
    return [names[case] for case in range(len(wishes))]


def _numbered(wishes: Sequence[str]) -> Iterable[str]:
    yield from wishes
    number = 2
    while True:
        yield harmless(f"{wishes[-1]}_{number}")
        number += 1


def _key(name: str) -> str:
    """What file systems that do not tell upper from lower case, or composed from decomposed letters, compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def require_room_for_results(
    folder: Path, volume: Volume, *, classes: int, probabilities: bool, uncertainty: bool
) -> None:
    """Compare the least that the results of a volume take with the room on the disk.

    Raises:
        UserError: with the numbers.
    """
    native = volume.array[0].size
    needed = native * _PACKED["labels"]
    needed += 2 * classes * native * _PACKED["probabilities"] if probabilities else 0
    needed += 4 * native * _PACKED["uncertainty"] if uncertainty else 0
    require_disk(folder, needed, f"The results of {volume.path}")


def write_results(result: "Segmentation", folder: Path, name: str, *, preview: bool = False) -> list[Path]:
    """Write all that a segmentation holds as ``folder/name…``: all of it or, where that fails, nothing.

    Returns:
        the files, the label map first.

    Raises:
        OSError: when a file cannot be written.
    """
    from monai_transfer.volumes.writing import write_volume  # nibabel is not needed to name the results

    written: list[Path] = []

    def write(array: np.ndarray, product: str, *, slope: float = 1.0) -> None:
        written.insert(0, folder / f"{name}{product}")
        write_volume(array, written[0], like=result.source, slope=slope)

    try:
        if result.stored_probabilities is not None:
            write(np.moveaxis(result.stored_probabilities, 0, -1), PROBABILITIES, slope=1.0 / PROBABILITY_SCALE)
        if result.entropy is not None:
            write(result.entropy.astype(np.float32), UNCERTAINTY)
        if preview and len(result.source.shape) == 3:
            from monai_transfer.inference.preview import write_preview  # matplotlib takes a second to import

            written.insert(0, folder / f"{name}{PREVIEW}")
            write_preview(result.source.array[0], result.labels, result.affine, written[0])
        write(result.labels, LABELS)  # last, so that where it lies the others do
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
        try:
            write_text(folder / name, text + "\n")
        except OSError as error:
            raise cannot_write(folder / name, error) from error


def _in_one_line(name: str) -> str:
    """A label's name for tables whose columns are told by spaces and quotes: a bundle may call its labels anything."""
    return " ".join(one_line(name).replace('"', " ").split()) or "_"
    return " ".join("".join(c if c.isprintable() and c != '"' else " " for c in name).split()) or "_"


def colour(label: int) -> tuple[int, int, int]:
    """A colour for a label: hues a golden section apart, so that neighbours differ; black for 0."""
    if label == 0:
        return (0, 0, 0)
    hue = (0.02 + (label - 1) * _GOLDEN) % 1.0
    saturation, value = (0.75, 0.95) if label % 2 else (0.55, 0.80)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
