"""Pictures of segmentations: one slice in grey with the outlines of the labels, arms side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from skimage.measure import find_contours

from monai_transfer.evaluation.table import ScoreTable, readable
from monai_transfer.figures.slices import OverlayCase, Slice, shown_slice
from monai_transfer.figures.style import INK, LABEL_COLOURS, QUIET, label_colours, new_figure


def best_median_worst(table: ScoreTable, *, metric: str = "dice") -> dict[str, str]:
    """Return the cases of highest, median and lowest mean score by these words; of few cases, each once."""
    scored = [case for case in table.cases if not np.isnan(table.case_mean(case, metric))]
    ranked = sorted(scored, key=lambda case: table.case_mean(case, metric), reverse=True)
    picks = {"best": 0, "worst": len(ranked) - 1, "median": len(ranked) // 2} if ranked else {}
    words: dict[str, str] = {}
    for word, index in picks.items():
        if ranked[index] not in words.values():
            words[word] = ranked[index]
    return {word: words[word] for word in ("best", "median", "worst") if word in words}


def draw_slice(axes: Axes, cut: Slice, label_map: NDArray[Any] | None, colours: Mapping[int, str]) -> None:
    """Draw one panel: the slice in grey and each label as an outline over a light tint."""
    low, high = cut.grey
    axes.imshow(cut.image, cmap="gray", vmin=low, vmax=high, aspect=cut.aspect, interpolation="bilinear")
    axes.set(xticks=[], yticks=[], facecolor="black")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if label_map is None:
        return
    for index, (value, colour) in enumerate(colours.items()):
        mask: NDArray[np.bool_] = np.equal(label_map, value)
        tint = np.zeros((*mask.shape, 4))
        tint[mask] = to_rgba(colour, 0.22)
        axes.imshow(tint, aspect=cut.aspect, interpolation="nearest")
        for outline in find_contours(np.pad(mask, 1).astype(float), 0.5):
            axes.plot(outline[:, 1] - 1, outline[:, 0] - 1, color=colour, linewidth=1.3, linestyle=_dashes(index))


def _dashes(index: int) -> str:
    """Return the style of the line: colours come again after eight labels, then dashed."""
    return "-" if index < len(LABEL_COLOURS) else (":" if index >= 2 * len(LABEL_COLOURS) else "--")


def overlay_figure(case: OverlayCase, *, width: float = 10.0) -> Figure:
    """Draw the truth and every prediction of one case side by side, on the same slice."""
    cut = shown_slice(case)
    titles = {arm: arm.capitalize() for arm in cut.maps} or {"image": "Image"}
    panels = [(title, _dice_text(case, arm), cut, cut.maps.get(arm)) for arm, title in titles.items()]
    return _row_of_panels(panels, case.label_names, width=width)


def overview_picture(
    source: OverlayCase,
    target: OverlayCase,
    *,
    source_title: str = "Source, with labels",
    target_title: str = "Target",
    width: float = 10.0,
) -> Figure:
    """Draw the story in one row: the labelled source, then the target source-only, adapted and in truth.

    Args:
        source: a source case with its truth.
        target: a target case with predictions ``source-only`` and ``adapted`` and its truth.
        source_title: stands over the first panel ("CT, with labels").
        target_title: begins the titles of the others ("MR").
        width: in inches.

    Raises:
        KeyError: when ``target`` lacks one of the two predictions.
    """
    given, cut = shown_slice(source), shown_slice(target)
    panels = [
        (source_title, "", given, given.maps.get("truth")),
        (f"{target_title}, source-only", _dice_text(target, "source-only"), cut, cut.maps["source-only"]),
        (f"{target_title}, adapted", _dice_text(target, "adapted"), cut, cut.maps["adapted"]),
        (f"{target_title}, truth", "", cut, cut.maps.get("truth")),
    ]
    return _row_of_panels(panels, target.label_names, width=width)


def _dice_text(case: OverlayCase, arm: str) -> str:
    return f"Dice {case.dice[arm]:.2f}" if arm in case.dice else ""


Panel = tuple[str, str, Slice, NDArray[Any] | None]


def _row_of_panels(panels: Sequence[Panel], label_names: Mapping[int, str], *, width: float) -> Figure:
    colours = label_colours(label_names)
    shape = max(cut.image.shape[0] * cut.aspect / cut.image.shape[1] for _, _, cut, _ in panels)
    columns = max(3, len(panels))
    legend_rows = -(-len(colours) // 8)
    figure = new_figure(width, shape * (width / columns - 0.08) + 0.36 + 0.3 * legend_rows)
    for index, (title, note, cut, label_map) in enumerate(panels):
        axes = figure.add_subplot(1, columns, index + 1)
        draw_slice(axes, cut, label_map, colours)
        _fill(axes, cut, shape)
        axes.set_title(title, loc="left", fontsize=10, color=INK, pad=5)
        axes.set_title(note, loc="right", fontsize=9, color=QUIET, pad=5)
        if index == 0 and cut.left_is_right:
            box = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.5}
            axes.text(0.015, 0.5, "R", transform=axes.transAxes, color="white", fontsize=8, va="center", bbox=box)
    handles = [
        Line2D([], [], color=colour, linewidth=3, linestyle=_dashes(index), label=readable(label_names[value]))
        for index, (value, colour) in enumerate(colours.items())
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=8, frameon=False, fontsize=9, handlelength=1.0)
    return figure


def _fill(axes: Axes, cut: Slice, shape: float) -> None:
    """Widen the panel with black to ``shape`` = height / width, so that the panels of a row are equal."""
    rows, columns = cut.image.shape
    height = max(rows, shape * columns / cut.aspect)
    middle = (rows - 1) / 2
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(middle + height / 2, middle - height / 2))
