"""The table of a bench of pairs, for a terminal and as one HTML page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from monai_transfer.evaluation.pair_score import Summary, WorstLabel
from monai_transfer.evaluation.pairs import PairTable
from monai_transfer.evaluation.table import readable
from monai_transfer.figures.report import page_environment
from monai_transfer.figures.report_tables import MISSING, figure_text
from monai_transfer.files import write_text


class BenchCell(NamedTuple):
    """A figure, what stands beneath it, and whether it is alarming."""

    value: str
    note: str = ""
    worse: bool = False


@dataclass(frozen=True)
class BenchRow:
    """A pair, or a mean over pairs.

    Attributes:
        name: stands at its head.
        cells: one per column of :func:`bench_columns`.
        is_mean: whether it is a figure over several pairs.
    """

    name: str
    cells: tuple[BenchCell, ...]
    is_mean: bool = False


_NONE = BenchCell(MISSING)
_NOTHING: dict[str, Any] = {"hardware": {}, "versions": {}}


def bench_columns(table: PairTable) -> list[str]:
    """Heads of the columns: source-only, the oracle, each method, the choice on the other pairs, and the cost."""
    return ["source-only", "oracle", *table.methods, "best on the others", "minutes", "memory (MB)"]


def bench_rows(table: PairTable) -> list[BenchRow]:
    """One row per pair; after them the mean, the worst pair and the worst label; then the pairs that are kept back."""
    rows = [_pair_row(table, pair) for pair in table.development]
    rows += _mean_rows(table, table.development)
    rows += [_pair_row(table, pair, " (kept back)") for pair in table.held]
    rows += _mean_rows(table, table.held, " (kept back)")
    width = len(bench_columns(table))
    return rows + [BenchRow(pair, (BenchCell("failed", "", True), *[_NONE] * (width - 1))) for pair in table.failures]


def write_pairs_report(path: Path, table: PairTable, *, run: Mapping[str, Any] | None = None) -> None:
    """Write the page of a bench.

    Args:
        path: the HTML file.
        table: the scoreboards.
        run: what was run, by heading.
    """
    first = next(iter(table.reports.values()), _NOTHING)
    page = {
        "title": "Adaptation methods over pairs of domains",
        "headline": table.headline,
        "sentences": table.sentences,
        "warnings": table.warnings,
        "columns": bench_columns(table),
        "rows": bench_rows(table),
        "methods": table.methods,
        "label_rows": [BenchRow(pair, tuple(_label_cells(table, pair))) for pair in table.boards],
        "cost_rows": [BenchRow(pair, tuple(_cost_cells(table, pair))) for pair in table.boards],
        "overlays": [],
        "run": {**(run or {}), "hardware": first["hardware"], "versions": first["versions"]},
        "tolerance": "2",
    }
    write_text(path, page_environment().get_template("pairs.html.j2").render(page))


def _pair_row(table: PairTable, pair: str, mark: str = "") -> BenchRow:
    report = table.reports[pair]
    arms = [BenchCell(_dice(report[arm]["dice"])) if report[arm] else _NONE for arm in ("source_only", "oracle")]
    scores = table.scores[pair]
    methods = [
        _share(scores[name].gap_recovered, f"Dice {_dice(scores[name].dice)}") if name in scores else _NONE
        for name in table.methods
    ]
    left = table.left_out.get(pair)
    figures = table.figures(pair)
    cost = (BenchCell(f"{figures['seconds'] / 60:.0f}"), BenchCell(f"{figures['peak_memory_mb']:.0f}"))
    chosen = _share(left.gap_recovered, left.chosen) if left else _NONE
    return BenchRow(f"{pair}{mark}", (*arms, *methods, chosen, *cost))


def _mean_rows(table: PairTable, pairs: Sequence[str], mark: str = "") -> Iterator[BenchRow]:
    if not pairs:
        return
    summaries = [table.summary(name, pairs) for name in table.methods]
    chosen = table.left_out_mean(pairs)
    rows = {
        "mean": [_share(one.gap_recovered, f"Dice {_dice(one.dice)}") for one in summaries],
        "worst pair": [_share(one.worst_pair[1], one.worst_pair[0]) if one.worst_pair else _NONE for one in summaries],
        "worst label": [_worst_label(one) for one in summaries],
    }
    for name, cells in rows.items():
        last = _share(chosen, "") if name == "mean" else BenchCell("")
        blank = BenchCell("")
        yield BenchRow(f"{name}{mark}", (blank, blank, *cells, last, blank, blank), is_mean=True)


def _worst_label(summary: Summary) -> BenchCell:
    if summary.worst_label is None:
        return _NONE
    pair, worst = summary.worst_label
    return _label_cell(worst, f"{readable(worst.label)}, {pair}")


def _label_cell(worst: WorstLabel, note: str) -> BenchCell:
    """The share of a label's gap, or the change of its Dice where there is no gap."""
    if worst.gap_recovered is not None:
        return _share(worst.gap_recovered, note)
    return BenchCell(f"Dice {worst.difference:+.2f}".replace("-", "−"), note, worst.difference < 0)


def _label_cells(table: PairTable, pair: str) -> Iterator[BenchCell]:
    """The labels that fell below source-only, or else the worst one."""
    for name in table.methods:
        score = table.scores[pair].get(name)
        if score is None:
            yield _NONE
            continue
        fallen = ", ".join(map(readable, score.negative_labels))
        note = f"below source-only: {fallen}" if fallen else readable(score.worst.label)
        yield _label_cell(score.worst, note)._replace(worse=bool(fallen))


def _cost_cells(table: PairTable, pair: str) -> Iterator[BenchCell]:
    report = table.reports[pair]
    arms = [report["source_only"], report["oracle"], *(report["methods"].get(name) for name in table.methods)]
    for figures in arms:
        yield BenchCell(f"{figures['seconds']:.0f} s", f"{figures['peak_memory_mb']:.0f} MB") if figures else _NONE


def _share(share: float | None, note: str) -> BenchCell:
    if share is None:
        return BenchCell(MISSING, note)
    return BenchCell(f"{100 * share:.0f} %".replace("-", "−"), note, share < 0)


def _dice(value: float | None) -> str:
    return MISSING if value is None else figure_text("dice", value)
