"""The tables of the reports as rows of text, ready for the page."""

import math
from collections.abc import Sequence
from typing import Any

from monai_transfer.evaluation.gap import AdaptationSummary, gap_recovered
from monai_transfer.evaluation.table import LabelSummary, ScoreTable, readable

TITLES = {
    "dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "nsd": "NSD",
    "precision": "Precision", "recall": "Recall",
}  # fmt: skip
ADAPTATION_METRICS = ("dice", "iou", "hd95_mm", "assd_mm")
MISSING = "–"


def adaptation_table(summary: AdaptationSummary) -> dict[str, Any]:
    """Return rows of labels × (metrics × arms), the mean row last, each with its share of the gap."""
    arms = summary.arms
    per_arm = {arm: table.summaries for arm, table in arms.items()}
    rows = []
    for label, gap in summary.gap_per_label.items():
        cells = [
            {**_cell(metric, per_arm[arm].get(label)), "style": _style(arm, first=index == 0)}
            for metric in ADAPTATION_METRICS
            for index, arm in enumerate(arms)
        ]
        rows.append({"name": readable(label), "cells": cells, "is_mean": False, **_gap_cell(gap)})
    means = [
        {**_mean_cell(metric, table), "style": _style(arm, first=index == 0)}
        for metric in ADAPTATION_METRICS
        for index, (arm, table) in enumerate(arms.items())
    ]
    rows.append({"name": "mean", "cells": means, "is_mean": True, **_gap_cell(summary.gap_recovered)})
    return {
        "metrics": [TITLES[metric] for metric in ADAPTATION_METRICS],
        "arms": list(arms),
        "rows": rows,
        "with_gap": summary.oracle is not None,
    }


def evaluation_table(table: ScoreTable) -> dict[str, Any]:
    """Return rows of labels × metrics, the mean row last."""
    rows: list[dict[str, Any]] = [
        {"name": readable(label), "cells": [_cell(metric, s) for metric in TITLES], "is_mean": False}
        for label, s in table.summaries.items()
    ]
    rows.append({"name": "mean", "cells": [_mean_cell(metric, table) for metric in TITLES], "is_mean": True})
    return {"metrics": list(TITLES.values()), "rows": rows}


def _style(arm: str, *, first: bool) -> str:
    return " ".join(filter(None, ("first" if first else "", "adapted" if arm == "adapted" else "")))


def _cell(metric: str, summary: LabelSummary | None) -> dict[str, str]:
    if summary is None:
        return {"value": MISSING, "note": "", "count": ""}
    deviation = summary.sd[metric]
    return {
        "value": figure_text(metric, summary.mean[metric]),
        "note": "" if math.isnan(deviation) else f"± {figure_text(metric, deviation)}",
        "count": _left_out(metric, [summary]),
    }


def _mean_cell(metric: str, table: ScoreTable) -> dict[str, str]:
    count = _left_out(metric, list(table.summaries.values()))
    return {"value": figure_text(metric, table.mean(metric)), "note": "", "count": count}


def _left_out(metric: str, summaries: Sequence[LabelSummary]) -> str:
    """Say how many cases a mean distance leaves out because a label was missed or invented."""
    missing = sum(s.missed + s.invented for s in summaries) if metric.endswith("_mm") else 0
    return f"{missing} of {sum(s.cases - s.absent for s in summaries)} left out" if missing else ""


def figure_text(metric: str, value: float) -> str:
    """Return a figure with as many digits as mean something; a dash where it is undefined."""
    if math.isnan(value):
        return MISSING
    return f"{value:.1f}" if metric == "hd95_mm" else f"{value:.2f}"


def _gap_cell(gap: float | None) -> dict[str, Any]:
    return {
        "gap": MISSING if gap is None else f"{100 * gap:.0f} %".replace("-", "−"),
        "worse": gap is not None and gap < 0,
    }


def method_rows(summary: AdaptationSummary) -> list[dict[str, Any]]:
    """Return one row per method that was compared."""
    floor, ceiling = summary.source_only, summary.oracle
    found = []
    for name, table in summary.methods.items():
        gap = gap_recovered(floor.mean(), table.mean(), ceiling.mean()) if floor and ceiling else None
        figures = {metric: figure_text(metric, table.mean(metric)) for metric in ("dice", "iou")}
        found.append({"name": name, **figures, **_gap_cell(gap)})
    return found


def subject_rows(summary: AdaptationSummary) -> list[dict[str, Any]]:
    """Return the mean Dice of each subject by arm."""
    tables = summary.arms.values()
    cases = list(dict.fromkeys(case for table in tables for case in table.cases))
    return [
        {"name": case, "values": [figure_text("dice", table.case_mean(case)) for table in tables]} for case in cases
    ]
