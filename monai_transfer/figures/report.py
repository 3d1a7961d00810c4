"""Reports as one HTML file each that needs no other file and no network."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from monai_transfer.evaluation.gap import AdaptationSummary
from monai_transfer.evaluation.table import ScoreTable, readable
from monai_transfer.figures.charts import History, label_bars, learning_curves
from monai_transfer.figures.overlays import best_median_worst, overlay_figure
from monai_transfer.figures.report_tables import (
    MISSING,
    TITLES,
    adaptation_table,
    evaluation_table,
    figure_text,
    method_rows,
    subject_rows,
)
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.figures.style import ARM_COLOURS, data_uri
from monai_transfer.files import write_text
from monai_transfer.text import one_line


def write_adaptation_report(
    path: Path,
    summary: AdaptationSummary,
    *,
    overlays: Sequence[OverlayCase] = (),
    curves: History | None = None,
    run: Mapping[str, Any] | None = None,
    title: str = "Domain adaptation",
) -> None:
    """Write the report of an adaptation: what was gained, for which labels, in pictures, and what was run.

    Args:
        path: the HTML file.
        summary: scores of source-only, adapted and oracle.
        overlays: the cases to show, in this order (see :func:`best_median_worst` and :func:`overlay_figure`).
        curves: recorded values by arm.
        run: what was run, by heading: text, lists or mappings (method, data, configuration, …). Seeds, hardware and
            versions are added from the summary.
        title: stands above the headline.
    """
    headline, *sentences = summary.sentences
    scored = summary.source_only is not None and summary.adapted is not None
    page = {
        "title": title,
        "headline": headline,
        "sentences": sentences[: len(sentences) - len(summary.warnings)],
        "warnings": summary.warnings,
        "ruler": _ruler(summary) if scored else None,
        "with_oracle": summary.oracle is not None,
        "saw_target_labels": bool(summary.labelled_target),
        "table": adaptation_table(summary) if scored else None,
        "bars": data_uri(label_bars(summary.arms), vector=True) if scored else None,
        "methods": method_rows(summary),
        "cases": subject_rows(summary) if scored else [],
        "overlays": overlay_images(overlays, summary.adapted),
        "curves": _curves(curves),
        "run": {**(run or {}), "seeds": summary.seeds, "hardware": summary.hardware, "versions": summary.versions},
        "tolerance": _tolerance(summary.adapted),
    }
    write_text(path, page_environment().get_template("adaptation.html.j2").render(page))


def write_evaluation_report(
    path: Path,
    table: ScoreTable,
    *,
    overlays: Sequence[OverlayCase] = (),
    run: Mapping[str, Any] | None = None,
    title: str = "Evaluation",
) -> None:
    """Write the report of one network on one data set.

    Args:
        path: the HTML file.
        table: its scores.
        overlays: the cases to show.
        run: what was run, by heading: text, lists or mappings.
        title: stands above the headline.
    """
    page = {
        "title": title,
        "headline": evaluation_headline(table),
        "sentences": [],
        "warnings": evaluation_warnings(table),
        "table": evaluation_table(table),
        "bars": data_uri(label_bars({"prediction": table}), vector=True),
        "cases": [
            {"name": case, "values": [figure_text(metric, table.case_mean(case, metric)) for metric in TITLES]}
            for case in table.cases
        ],
        "overlays": overlay_images(overlays, table),
        "run": run or {},
        "tolerance": _tolerance(table),
    }
    write_text(path, page_environment().get_template("evaluation.html.j2").render(page))


def evaluation_headline(table: ScoreTable) -> str:
    """Return the result of an evaluation in one sentence."""
    deviation = table.sd("dice")
    spread = "" if math.isnan(deviation) else f" ± {deviation:.2f}"
    where = f"{_count(table.labels, 'label')} in {_count(table.cases, 'case')}"
    return f"Mean Dice {table.mean('dice'):.2f}{spread} over {where}."


def evaluation_warnings(table: ScoreTable) -> list[str]:
    """Return what lies behind the means: cases without a prediction, labels missed or invented."""
    missing = ", ".join(table.without_prediction)
    found = [f"No prediction for {missing}: left out of every mean."] if missing else []
    for label, summary in table.summaries.items():
        if summary.missed:
            found.append(f"Missed altogether: {readable(label)} in {summary.missed} of {summary.cases} cases.")
        if summary.invented:
            found.append(
                f"Found where there is none: {readable(label)} in {summary.invented} of {summary.cases} cases."
            )
    return found


def page_environment() -> Environment:
    """Where the pages' templates and their filters live."""
    environment = Environment(
        loader=PackageLoader("monai_transfer.figures", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    environment.filters["words"] = lambda name: readable(str(name))
    environment.filters["plain"] = _plain
    return environment


def _plain(value: Any) -> str:
    if value is None or value == "" or value == [] or value == ():
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _ruler(summary: AdaptationSummary) -> dict[str, Any]:
    """Place the arms on a scale of mean Dice from 0 to 1, 600 units long: adapted above, the others below.

    An oracle too near to source-only moves above adapted, so that no two texts touch.
    """
    means = {arm: table.mean("dice") for arm, table in summary.arms.items()}
    places = {arm: round(20 + 600 * min(max(mean, 0.0), 1.0), 1) for arm, mean in means.items()}
    crowded = abs(places.get("oracle", math.inf) - places["source-only"]) < 130
    heights = {"source-only": 66, "adapted": 28, "oracle": 12 if crowded else 66}
    marks = []
    for arm, x in places.items():
        anchor = "start" if x < 90 else "end" if x > 550 else "middle"
        shift = {"start": -7, "end": 7, "middle": 0}[anchor]
        mark = {"x": x, "text_x": x + shift, "y": heights[arm], "anchor": anchor}
        marks.append({**mark, "colour": ARM_COLOURS[arm], "text": f"{arm} {means[arm]:.2f}"})
    ends = sorted((places["source-only"], places["adapted"]))
    return {"marks": marks, "from": ends[0], "to": ends[1], "worse": means["adapted"] < means["source-only"]}


def overlay_images(cases: Sequence[OverlayCase], table: ScoreTable | None) -> list[dict[str, str]]:
    """The pictures of cases for a page, named best, median and worst by ``table``."""
    words = {case: word for word, case in best_median_worst(table).items()} if table is not None else {}
    found = []
    for case in cases:
        word = words.get(case.name, "")
        found.append(
            {
                "title": case.name,
                "note": {"best": "best case", "median": "median case", "worst": "worst case"}.get(word, ""),
                "source": data_uri(overlay_figure(case), vector=False),
                "alt": f"A slice of {case.name} with the outlines of the labels, networks side by side",
            }
        )
    return found


def _curves(history: History | None) -> str | None:
    recorded = any(set(record) - {"step"} for records in (history or {}).values() for record in records)
    return data_uri(learning_curves(history), vector=True) if history and recorded else None


def _tolerance(table: ScoreTable | None) -> str:
    return f"{table.nsd_tolerance_mm:g}" if table is not None else "2"


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}" + ("" if len(items) == 1 else "s")
