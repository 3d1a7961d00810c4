"""What a finished fine-tuning tells: sentences, report.json, the figure and the model card."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.evaluation import ScoreTable
from monai_transfer.figures.report import write_evaluation_report
from monai_transfer.figures.style import INK, RULE, bare_axes, new_figure, save_figure
from monai_transfer.files import write_text
from monai_transfer.machine import hardware, versions
from monai_transfer.options import SCRATCH
from monai_transfer.workflows.cards import write_model_card
from monai_transfer.workflows.finetuning_cases import FineTuningCases
from monai_transfer.workflows.finetuning_choice import StartChoice
from monai_transfer.workflows.finetuning_runs import Run
from monai_transfer.workflows.finetuning_table import catching_up, mean_curve, start_table, starts_of
from monai_transfer.workflows.scoring import overlay_cases
from monai_transfer.workflows.starting_point import StartingPoint

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of scratch, and of each start in the order of the command; further ones begin anew with the second."""
NOTEWORTHY = 0.005
_LEGEND = 30
"""So many letters of a SPEC fit into a legend."""


def comparison_sentences(runs: Sequence[Run]) -> list[str]:
    """Say for each number of subjects what the weights brought: the gain, negative transfer, and the steps saved."""
    sentences = []
    groups = starts_of(runs)
    several = len(groups) > 2
    for cases in sorted({run.cases for run in runs}):
        scratch = [run for run in groups.get(SCRATCH, ()) if run.cases == cases]
        for spec, members in groups.items():
            tuned = [run for run in members if run.cases == cases]
            if spec == SCRATCH or not tuned or not scratch:
                continue
            scores, others = ([run.dice for run in part if run.dice is not None] for part in (tuned, scratch))
            if scores and others:
                sentences.append(_gain(cases, mean(scores), mean(others), len(tuned), spec))
            if not several:  # the table has the steps of each
                sentences += _saving(cases, tuned, scratch)
    return sentences


def _gain(cases: int, transfer: float, scratch: float, seeds: int, spec: str) -> str:
    gain = transfer - scratch
    over = f" (mean of {seeds} seeds)" if seeds > 1 else ""
    figures = f"{cases} case(s){over}: Dice {transfer:.3f} from {spec}, {scratch:.3f} from scratch"
    if gain < -NOTEWORTHY:
        return f"{figures}. Negative transfer: the weights cost {-gain:.3f}."
    if gain < NOTEWORTHY:
        return f"{figures}: no difference worth the name."
    return f"{figures}: the weights bring {gain:.3f}."


def _saving(cases: int, transfer: Sequence[Run], scratch: Sequence[Run]) -> list[str]:
    """One sentence on the mean validation curves over seeds."""
    if (found := catching_up(transfer, scratch)) is None:
        return []
    reached, last, final = found
    if reached is None:
        return [f"{cases} case(s): fine-tuning does not reach the final validation Dice from scratch ({final:.3f})."]
    return [
        f"{cases} case(s): fine-tuning reaches the final validation Dice from scratch ({final:.3f}) after {reached} of "
        f"{last} steps."
    ]


def report_finetuning(
    run: Run,
    runs: Sequence[Run],
    cases: FineTuningCases,
    plan: Plan,
    start: StartingPoint,
    strategy: Strategy,
    *,
    choice: StartChoice | None = None,
    forgotten: tuple[ScoreTable, ScoreTable] | None = None,
) -> dict[str, Any]:
    """Write ``report.json``, ``report.html``, the figure and the model card into the fine-tuned bundle.

    Args:
        run: what the bundle keeps.
        runs: every run that is compared.
        cases: what was learnt from, watched and scored.
        plan: the choices.
        start: the weights.
        strategy: how they were fine-tuned.
        choice: why the bundle keeps ``run``.
        forgotten: scores on old cases before and after.

    Returns:
        The content of ``report.json``.
    """
    folder = run.bundle.root
    sentences = comparison_sentences(runs) or _alone(run, start)
    if choice is not None:
        sentences.append(choice.sentence)
    if forgotten is not None:
        sentences.append(forgetting_sentence(*forgotten))
    content = {
        "weights": start.spec,
        "strategy": strategy.describe(),
        "sentences": sentences,
        "table": start_table(runs),
        "choice": None if choice is None else asdict(choice),
        "load_report": _load_summary(folder),
        "runs": [_as_row(one) for one in runs],
        "old_cases": None if forgotten is None else {n: t.mean("dice") for n, t in zip(_AGES, forgotten, strict=True)},
        "hardware": hardware(),
        "versions": versions(),
    }
    write_text(folder / "report.json", json.dumps(content, indent=2, default=str) + "\n")
    if len(runs) > 1:
        save_figure(comparison_figure(runs), folder / "comparison.png")
    described = _described(cases, plan, start, strategy)
    title = f"Segmentation of {plan.source_modality.upper()}, fine-tuned"
    if cases.held is not None and run.table is not None:
        overlays = overlay_cases(
            cases.held, {"prediction": run.bundle}, {"prediction": run.table}, order_by="prediction"
        )
        page = folder / "report.html"
        write_evaluation_report(page, run.table, overlays=overlays, run=described, title=title)
    words = {start.spec: "fine-tuned", "": "from scratch"}
    shown = [one for one in runs if one.cases == run.cases and one.weights in words]
    scores = {words[one.weights]: one.table for one in shown if one.table is not None}
    write_model_card(run.bundle, title=title, plan=plan, sentences=sentences, scores=scores, run=described)
    return content


_AGES = ("before", "after")


def forgetting_sentence(before: ScoreTable, after: ScoreTable) -> str:
    """Say what fine-tuning did to the old cases."""
    old, new = before.mean("dice"), after.mean("dice")
    change = new - old
    if change < -NOTEWORTHY:
        return f"Old cases: Dice fell from {old:.3f} to {new:.3f}: {-change:.3f} was forgotten."
    return f"Old cases: Dice was {old:.3f} and is {new:.3f}: nothing was forgotten."


def comparison_figure(runs: Sequence[Run]) -> Figure:
    """Draw the validation curves and, for several numbers of subjects, Dice by number of subjects."""
    counts = sorted({run.cases for run in runs})
    efficiency = len(counts) > 1 and any(run.dice is not None for run in runs)
    panels = len(counts) + (1 if efficiency else 0)
    columns = min(3, panels)
    figure = new_figure(3.6 * columns, 3.0 * math.ceil(panels / columns))
    groups = list(_coloured(runs))
    for index, count in enumerate(counts):
        axes = figure.add_subplot(math.ceil(panels / columns), columns, index + 1)
        for name, colour, group in groups:
            members = [run for run in group if run.cases == count]
            for run in members if len(groups) < 3 else ():  # of more starts the means alone can be told apart
                axes.plot(*_columns(run.curve), color=colour, lw=0.8, alpha=0.35 if len(members) > 1 else 1.0)
            axes.plot(*_columns(mean_curve(members)), color=colour, lw=2.0, label=name)
        axes.set(title=f"{count} subject(s)", xlabel="step", ylabel="validation Dice", ylim=(0, 1))
        _dress(axes, legend=index == 0)
    if efficiency:
        axes = figure.add_subplot(math.ceil(panels / columns), columns, panels)
        for name, colour, group in groups:
            points = [(run.cases, run.dice) for run in group if run.dice is not None]
            means = [(n, mean(dice for cases, dice in points if cases == n)) for n in sorted({n for n, _ in points})]
            axes.plot(*_columns(points), "o", color=colour, ms=4, mfc="white")
            axes.plot(*_columns(means), color=colour, lw=2.0, label=name)
        axes.set(title="label efficiency", xlabel="training subjects", ylabel="test Dice", ylim=(0, 1), xticks=counts)
        _dress(axes, legend=False)
    return figure


def _coloured(runs: Sequence[Run]) -> Iterator[tuple[str, str, list[Run]]]:
    """The end of each start's SPEC, its colour, and its runs."""
    for number, (name, members) in enumerate(starts_of(runs).items()):
        colour = COLOURS[number if number < len(COLOURS) else 1 + (number - 1) % (len(COLOURS) - 1)]
        yield name if len(name) <= _LEGEND else f"…{name[-_LEGEND:]}", colour, members


def _dress(axes: Any, *, legend: bool) -> None:
    axes.title.set_color(INK)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    bare_axes(axes)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]


def _alone(run: Run, start: StartingPoint) -> list[str]:
    if run.dice is None:
        return ["Not scored: too few cases."]
    return [f"Mean Dice {run.dice:.3f} on the held cases, from {start.spec}; not compared with training from scratch."]


def _as_row(run: Run) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "weights": run.weights,
        "cases": run.cases,
        "seed": run.seed,
        "dice": run.dice,
        "training_loss": run.loss,
        "per_label": None if run.table is None else {n: s.mean["dice"] for n, s in run.table.summaries.items()},
        "curve": run.curve,
        "bundle": str(run.bundle.root),
    }


def _load_summary(folder: Path) -> dict[str, Any] | None:
    path = folder / "eval" / "load_report.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    return {key: content[key] for key in ("layout", "encoder_share", "counts", "notes")}


def _described(cases: FineTuningCases, plan: Plan, start: StartingPoint, strategy: Strategy) -> dict[str, Any]:
    return {
        "weights": start.spec,
        "strategy": strategy.describe(),
        "data": f"{cases.training.root}, {len(cases.training)} cases: {', '.join(cases.training.names)}",
        "held cases": ", ".join(cases.held.names) if cases.held is not None else "none",
        "network": plan.network,
        "working grid": " × ".join(f"{step:g}" for step in plan.spacing) + " mm",
        "training": f"{plan.steps} steps of {plan.batch_size} case(s), seed {plan.seed}",
    }
