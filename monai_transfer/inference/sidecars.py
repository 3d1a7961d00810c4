"""What the label numbers mean, for people and for viewers: JSON, ITK-SNAP and 3D Slicer."""

import colorsys
import json
from collections.abc import Mapping
from pathlib import Path

from monai_transfer.files import write_text

GOLDEN = 0.618033988749895


def colour(label: int) -> tuple[int, int, int]:
    """A colour for a label: hues a golden section apart, so that neighbours differ; black for 0."""
    if label == 0:
        return (0, 0, 0)
    hue = (0.02 + (label - 1) * GOLDEN) % 1.0
    saturation, value = (0.75, 0.95) if label % 2 else (0.55, 0.80)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def write_sidecars(label_names: Mapping[int, str], folder: Path) -> None:
    """Write ``labels.json``, ``labels.itksnap.txt`` (ITK-SNAP) and ``labels.ctbl`` (3D Slicer) into a folder."""
    entries = sorted(label_names.items())
    described = {str(n): {"name": name, "colour": list(colour(n))} for n, name in entries}
    write_text(folder / "labels.json", json.dumps(described, indent=2) + "\n")
    snap = ["# ITK-SnAP Label Description File", "# IDX -R- -G- -B- -A-- VIS MSH LABEL"]
    slicer = ["# Color table file labels.ctbl", f"# {len(entries)} values"]
    for number, name in entries:
        red, green, blue = colour(number)
        seen = int(number != 0)
        snap.append(f'{number:5d} {red:5d} {green:4d} {blue:4d} {seen:8d} {seen:2d} {seen:2d}    "{name}"')
        slicer.append(f"{number} {name.replace(' ', '_')} {red} {green} {blue} {255 * seen}")
    write_text(folder / "labels.itksnap.txt", "\n".join(snap) + "\n")
    write_text(folder / "labels.ctbl", "\n".join(slicer) + "\n")
