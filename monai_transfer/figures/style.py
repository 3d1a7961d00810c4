"""What all figures share: colours that colour-blind readers can tell apart, type, and ways to embed."""

import base64
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from monai_transfer.files import replacing
from monai_transfer.text import one_line

# Okabe and Ito's palette, ordered for contours on grey; ink and greys for everything that is not a label.
LABEL_COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#00B386", "#D55E00", "#3A86D9", "#B9A7FF")
ARM_COLOURS = {"source-only": "#A7ADB5", "adapted": "#0072B2", "oracle": "#1D2329", "prediction": "#0072B2"}
INK = "#1D2329"
QUIET = "#6B737C"
RULE = "#D9DDE1"

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "svg.hashsalt": "monai-transfer",
}


def label_colours(label_names: Mapping[int, str]) -> dict[int, str]:
    """Return one colour per label value, the same in every figure; background (0) has none."""
    values = sorted(value for value in label_names if value != 0)
    return {value: LABEL_COLOURS[index % len(LABEL_COLOURS)] for index, value in enumerate(values)}


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """Return one colour per arm; the three of a report have theirs, others take the palette in turn."""
    spare = iter(LABEL_COLOURS * 4)
    return {arm: ARM_COLOURS[arm] if arm in ARM_COLOURS else next(spare) for arm in arms}


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of ``width`` × ``height`` inches that belongs to no global state and needs no screen."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def bare_axes(axes: Axes) -> None:
    """Leave only the data: no frame, quiet ticks."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, colors=QUIET, labelsize=8.5)


def png_bytes(figure: Figure, *, dpi: int = 160) -> bytes:
    """Render a figure as PNG, without a date, so equal figures give equal bytes."""
    return _rendered(figure, format="png", dpi=dpi, metadata={"Software": None})


def svg_bytes(figure: Figure) -> bytes:
    """Render a figure as SVG with its letters as outlines, so it looks the same everywhere."""
    return _rendered(figure, format="svg", metadata={"Date": None, "Creator": None})


def _rendered(figure: Figure, **how: Any) -> bytes:
    """The figure with every text as it is written.

    A name with dollar signs would be taken for a formula, and a wrong one fails after the whole training. Texts decide
    that when they are made, and ticks are made while they are drawn: so both are told.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(one_line(text.get_text()))
    buffer = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "text.parse_math": False}), warnings.catch_warnings():
        # a name in a script that the font lacks shows as boxes; that is no news to its reader
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, **how)
    return buffer.getvalue()


def data_uri(figure: Figure, *, vector: bool) -> str:
    """Return a figure as a ``data:`` address for an ``<img>`` of a page that must need no other file."""
    content = svg_bytes(figure) if vector else png_bytes(figure)
    kind = "svg+xml" if vector else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def save_figure(figure: Figure, path: Path, *, dpi: int = 160) -> None:
    """Write a figure as PNG or, where the name ends so, SVG; the whole file or nothing."""
    with replacing(path) as file:
        file.write(svg_bytes(figure) if path.suffix == ".svg" else png_bytes(figure, dpi=dpi))
