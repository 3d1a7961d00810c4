"""Charts: scores per label with the oracle's mark, and learning curves as small multiples."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from monai_transfer.evaluation.table import ScoreTable, readable
from monai_transfer.figures.style import ARM_COLOURS, INK, QUIET, RULE, arm_colours, bare_axes, new_figure

History = Mapping[str, Sequence[Mapping[str, float]]]
"""Arm → records of one step each: ``{"step": 20, "loss": 0.8, …}``; a name may be missing from some records."""


def label_bars(arms: Mapping[str, ScoreTable], *, width: float = 10.0) -> Figure:
    """Draw the mean Dice per label: a bar per arm, a dot per case, and the oracle as an upright mark across the bars.

    Args:
        arms: tables by arm; ``oracle``, when there, becomes the mark.
        width: in inches.
    """
    bars = {arm: table for arm, table in arms.items() if arm != "oracle"} or dict(arms)
    oracle = arms.get("oracle") if "oracle" not in bars else None
    labels = next(iter(arms.values())).labels
    colours = arm_colours(arms)
    thickness = 0.72 / len(bars)
    figure = new_figure(width, 0.75 + (0.22 * len(bars) + 0.1) * len(labels))
    axes = figure.add_subplot()
    for row, label in enumerate(labels):
        for index, (arm, table) in enumerate(bars.items()):
            place = row - 0.36 + (index + 0.5) * thickness
            values = [r.dice for r in table.rows if r.label == label and not math.isnan(r.dice)]
            axes.barh(place, np.mean(values) if values else 0.0, height=thickness * 0.9, color=colours[arm])
            axes.plot(values, [place] * len(values), "o", ms=4, mfc="white", mec=INK, mew=0.8, clip_on=False, zorder=3)
        if oracle is not None:
            mark = oracle.summary(label).mean["dice"]
            axes.plot([mark, mark], [row - 0.42, row + 0.42], color=ARM_COLOURS["oracle"], lw=2.2, zorder=2)
    axes.set(yticks=range(len(labels)), yticklabels=[readable(label) for label in labels], xlim=(0, 1), xlabel="Dice")
    axes.invert_yaxis()
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    bare_axes(axes)
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    handles: list[Patch | Line2D] = [Patch(color=colours[arm], label=arm) for arm in bars]
    handles.append(Line2D([], [], marker="o", ls="", mfc="white", mec=INK, ms=4, label="one case"))
    if oracle is not None:
        handles.append(Line2D([], [], color=ARM_COLOURS["oracle"], lw=2.2, label="oracle"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def learning_curves(history: History, *, width: float = 10.0) -> Figure:
    """Draw each recorded value in a panel of its own, one line per arm; over 200 points are averaged in groups.

    Args:
        history: see :data:`History`.
        width: in inches.

    Raises:
        ValueError: when no value was recorded.
    """
    history = {arm: history[arm] for arm in sorted(history, key=_arm_order)}
    names = list(dict.fromkeys(name for records in history.values() for record in records for name in record))
    names = [name for name in names if name != "step"]
    if not names:
        raise ValueError("the history has no values to draw")
    columns = min(3, max(2, len(names)))
    rows = -(-len(names) // columns)
    figure = new_figure(width, 2.2 * rows + 0.35)
    colours = arm_colours(history)
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        for arm, records in history.items():
            points = [(r["step"], r[name]) for r in records if name in r and math.isfinite(r[name])]
            if points:
                steps, values = _thinned(points)
                axes.plot(steps, values, color=colours[arm], lw=1.6, marker="o" if len(points) == 1 else None, ms=3)
        axes.set_title(readable(name), loc="left", fontsize=9.5, color=INK)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        bare_axes(axes)
        if index + columns >= len(names):
            axes.set_xlabel("step", fontsize=8.5, color=QUIET)
    handles = [Line2D([], [], color=colours[arm], lw=2.2, label=arm) for arm in history]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _arm_order(arm: str) -> int:
    return list(ARM_COLOURS).index(arm) if arm in ARM_COLOURS else len(ARM_COLOURS)


def _thinned(points: Sequence[tuple[float, float]], most: int = 200) -> tuple[list[float], list[float]]:
    """Return steps and values; of many points the means of neighbours, so that a noisy loss stays readable."""
    chunk = -(-len(points) // most)
    means = [np.mean(points[start : start + chunk], axis=0) for start in range(0, len(points), chunk)]
    return [float(step) for step, _ in means], [float(value) for _, value in means]
