"""``monai-transfer benchmark adaptation --pairs FILE``: methods side by side on a list of pairs of domains."""

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.pairs import read_pairs
from monai_transfer.bundle.request import PlanOptions
from monai_transfer.cli import console
from monai_transfer.evaluation.pairs import PairTable
from monai_transfer.figures.pairs_report import bench_columns, bench_rows
from monai_transfer.text import one_line
from monai_transfer.workflows.pairs import compare_pairs, plan_pairs


def compare_listed(
    file: Path,
    output: Path,
    options: PlanOptions,
    *,
    weights: str | None,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    jobs: int,
    cluster: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan every pair of the file, say how, and compare; exit status 1 where a pair or a method failed."""
    bench = plan_pairs(read_pairs(file), options, weights)
    for name, (domains, plan) in bench.planned.items():
        console.say_section(name)
        for note in domains.notes:
            console.say(note)
        console.say_plan(plan)
        console.say(f"{plan.steps} steps each.")
    for name, reason in bench.failures.items():
        console.note(f"{name}: {reason}")
    console.say(f"{', '.join(arm.name for arm in arms)}; {len(seeds)} seed(s) on {len(bench.planned)} pair(s).")
    if not dry_run:
        table = compare_pairs(
            bench, output, arms=arms, seeds=seeds, jobs=jobs, cluster=cluster, say=console.say_section
        )
        if not as_json:
            console.out.print(_drawn(table))
        sentences = (table.headline, *table.sentences, *table.warnings, f"Table: {output / 'pairs.html'}")
        console.emit_result(table.as_report(), sentences, as_json=as_json)
    if not bench.is_whole:
        raise typer.Exit(1)


def _drawn(table: PairTable) -> Table:
    """The table for a terminal: a figure with its note beneath."""
    drawn = Table(title="Share of the gap recovered", title_justify="left")
    drawn.add_column("pair")
    for column in bench_columns(table):
        drawn.add_column(column, justify="right")
    for row in bench_rows(table):
        # a string would be put into one line
        cells = (Text("\n".join(map(one_line, filter(None, (cell.value, cell.note))))) for cell in row.cells)
        drawn.add_row(row.name, *cells, end_section=row.name.startswith("worst label"))
    return drawn
