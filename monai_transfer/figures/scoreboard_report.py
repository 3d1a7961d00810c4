"""The scoreboard as one HTML page: shares of the gap as bars, tables, cost, overlays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from monai_transfer.evaluation.scoreboard import Scoreboard
from monai_transfer.evaluation.table import readable
from monai_transfer.figures.report import overlay_images, page_environment
from monai_transfer.figures.report_tables import MISSING, figure_text
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.figures.style import ARM_COLOURS, INK, RULE, bare_axes, data_uri, new_figure
from monai_transfer.files import write_text

_WORSE = "#B3400A"


def write_scoreboard_report(
    path: Path,
    scoreboard: Scoreboard,
    *,
    overlays: Sequence[OverlayCase] = (),
    run: Mapping[str, Any] | None = None,
    title: str = "Adaptation methods",
) -> None:
    """Write the page of a scoreboard.

    Args:
        path: the HTML file.
        scoreboard: the runs.
        overlays: the cases to show.
        run: what was run, by heading.
        title: stands above the headline.
    """
    report = scoreboard.as_report()
    tolerance = next(iter(scoreboard.source_only.values())).table.nsd_tolerance_mm
    page = {
        "title": title,
        "headline": scoreboard.headline,
        "sentences": [],
        "warnings": scoreboard.warnings,
        "chart": data_uri(method_bars(scoreboard), vector=True) if scoreboard.methods else None,
        "with_gap": bool(scoreboard.oracle),
        "rows": _rows(report),
        "labels": [readable(label) for label in scoreboard.labels],
        "label_rows": _label_rows(report, scoreboard.labels),
        "overlays": overlay_images(overlays, None),
        "run": {**(run or {}), "seeds": scoreboard.seeds, "hardware": scoreboard.hardware,
                "versions": scoreboard.versions},
        "tolerance": f"{tolerance:g}",
    }  # fmt: skip
    write_text(path, page_environment().get_template("scoreboard.html.j2").render(page))


def method_bars(scoreboard: Scoreboard, *, width: float = 10.0) -> Figure:
    """Draw the share of the gap per method: a bar for the mean, a dot per seed; without an oracle, mean Dice.

    Args:
        scoreboard: the runs.
        width: in inches.
    """
    names = scoreboard.ranked
    by_gap = any(scoreboard.gaps(name) for name in names)
    figure = new_figure(width, 0.8 + 0.34 * len(names))
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        runs = scoreboard.methods[name].values()
        values = [100 * share for share in scoreboard.gaps(name).values()] if by_gap else [r.table.mean() for r in runs]
        mean = float(np.mean(values)) if values else 0.0
        axes.barh(row, mean, height=0.62, color=ARM_COLOURS["adapted"] if mean >= 0 else _WORSE)
        axes.plot(values, [row] * len(values), "o", ms=4, mfc="white", mec=INK, mew=0.8, clip_on=False, zorder=3)
    unit = "gap recovered, % (0: source-only, 100: oracle); one dot per seed" if by_gap else "Dice; one dot per seed"
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=unit)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0), max(high, 100 if by_gap else 1))
    axes.axvline(0, color=INK, lw=1)
    axes.invert_yaxis()
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    bare_axes(axes)
    axes.tick_params(axis="y", labelsize=9.5, labelcolor=INK)
    return figure


def _entries(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    named = {"source-only": report["source_only"], **report["methods"], "oracle": report["oracle"]}
    return {name: figures for name, figures in named.items() if figures}


def _rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per arm: score, share of the gap, labels made worse, cost."""
    return [
        {
            "name": name,
            "cells": [_with_spread(metric, figures) for metric in ("dice", "iou", "hd95_mm")],
            "gap": _share(figures),
            "worse": (figures.get("gap_recovered") or 0) < 0,
            "negative": ", ".join(readable(label) for label in figures.get("negative_labels", [])) or MISSING,
            "seconds": f"{figures['seconds']:.0f}",
            "memory": f"{figures['peak_memory_mb']:.0f}",
        }
        for name, figures in _entries(report).items()
    ]


def _label_rows(report: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "cells": [
            {**_with_spread("dice", figures["per_label"][label]),
             "worse": label in figures.get("negative_labels", [])} for label in labels]}
        for name, figures in _entries(report).items()
    ]  # fmt: skip


def _with_spread(metric: str, figures: Mapping[str, Any]) -> dict[str, str]:
    value, deviation = figures[metric], figures[f"{metric}_sd"]
    return {
        "value": MISSING if value is None else figure_text(metric, value),
        "note": "" if deviation is None else f"± {figure_text(metric, deviation)}",
    }


def _share(figures: Mapping[str, Any]) -> dict[str, str]:
    value, deviation = figures.get("gap_recovered"), figures.get("gap_recovered_sd")
    return {
        "value": MISSING if value is None else f"{100 * value:.0f} %".replace("-", "−"),
        "note": "" if deviation is None else f"± {100 * deviation:.0f}",
    }
