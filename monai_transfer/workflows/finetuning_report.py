"""What a finished fine-tuning tells: sentences, report.json, the figure and the model card."""

import json
import math
from collections.abc import Sequence
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
from monai_transfer.workflows.cards import write_model_card
from monai_transfer.workflows.finetuning_cases import FineTuningCases
from monai_transfer.workflows.finetuning_choice import StartChoice
from monai_transfer.workflows.finetuning_runs import Run
from monai_transfer.workflows.scoring import overlay_cases
from monai_transfer.workflows.starting_point import StartingPoint

COLOURS = {"transfer": "#0072B2", "scratch": "#D55E00"}
WORDS = {"transfer": "fine-tuned", "scratch": "from scratch"}
NOTEWORTHY = 0.005


def steps_to_reach(curve: Sequence[tuple[int, float]], score: float) -> int | None:
    """The first step at which a validation curve reaches ``score``, None where it never does."""
    return next((step for step, value in curve if value >= score), None)


def comparison_sentences(runs: Sequence[Run], spec: str) -> list[str]:
    """Say for each number of subjects what the weights brought: the gain, negative transfer, and the steps saved."""
    sentences = []
    for cases in sorted({run.cases for run in runs}):
        arms = {arm: [run for run in runs if run.arm == arm and run.cases == cases] for arm in WORDS}
        if not all(arms.values()):
            continue
        scores = {arm: [run.dice for run in members if run.dice is not None] for arm, members in arms.items()}
        if all(scores.values()):
            sentences.append(
                _gain(cases, mean(scores["transfer"]), mean(scores["scratch"]), len(arms["transfer"]), spec)
            )
        sentences += _saving(cases, arms["transfer"], arms["scratch"])
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
    ours, theirs = mean_curve(transfer), mean_curve(scratch)
    if not ours or not theirs:
        return []
    last, final = theirs[-1]
    reached = steps_to_reach(ours, final)
    if reached is None:
        return [f"{cases} case(s): fine-tuning does not reach the final validation Dice from scratch ({final:.3f})."]
    return [
        f"{cases} case(s): fine-tuning reaches the final validation Dice from scratch ({final:.3f}) after {reached} of "
        f"{last} steps."
    ]


def mean_curve(runs: Sequence[Run]) -> list[tuple[int, float]]:
    """Mean of the validation curves at the steps that all runs have."""
    curves = [dict(run.curve) for run in runs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return [(step, mean(curve[step] for curve in curves)) for step in steps]


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
    sentences = comparison_sentences(runs, start.spec) or _alone(run, start)
    if choice is not None:
        sentences.append(choice.sentence)
    if forgotten is not None:
        sentences.append(forgetting_sentence(*forgotten))
    content = {
        "weights": start.spec,
        "strategy": strategy.describe(),
        "sentences": sentences,
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
    scores = {WORDS[one.arm]: one.table for one in runs if one.table is not None and one.cases == run.cases}
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
    scored = [run for run in runs if run.dice is not None]
    efficiency = len(counts) > 1 and bool(scored)
    panels = len(counts) + (1 if efficiency else 0)
    columns = min(3, panels)
    figure = new_figure(3.6 * columns, 3.0 * math.ceil(panels / columns))
    for index, count in enumerate(counts):
        axes = figure.add_subplot(math.ceil(panels / columns), columns, index + 1)
        for arm, colour in COLOURS.items():
            members = [run for run in runs if run.arm == arm and run.cases == count]
            for run in members:
                axes.plot(*_columns(run.curve), color=colour, lw=0.8, alpha=0.35 if len(members) > 1 else 1.0)
            axes.plot(*_columns(mean_curve(members)), color=colour, lw=2.0, label=WORDS[arm])
        axes.set(title=f"{count} subject(s)", xlabel="step", ylabel="validation Dice", ylim=(0, 1))
        _dress(axes, legend=index == 0)
    if efficiency:
        axes = figure.add_subplot(math.ceil(panels / columns), columns, panels)
        for arm, colour in COLOURS.items():
            points = [(run.cases, run.dice) for run in scored if run.arm == arm and run.dice is not None]
            means = [(n, mean(dice for cases, dice in points if cases == n)) for n in sorted({n for n, _ in points})]
            axes.plot(*_columns(points), "o", color=colour, ms=4, mfc="white")
            axes.plot(*_columns(means), color=colour, lw=2.0, label=WORDS[arm])
        axes.set(title="label efficiency", xlabel="training subjects", ylabel="test Dice", ylim=(0, 1), xticks=counts)
        _dress(axes, legend=False)
    return figure


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
        "cases": run.cases,
        "seed": run.seed,
        "dice": run.dice,
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
