"""What each start is worth: Dice by start and number of labelled cases, and the change against scratch."""

from collections.abc import Sequence
from statistics import mean, stdev

from monai_transfer.options import SCRATCH
from monai_transfer.text import markdown
from monai_transfer.workflows.finetuning_runs import Run

Curve = list[tuple[int, float]]


def starts_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Scratch first, then the SPEC of each start -> its runs."""
    scratch = {SCRATCH: [run for run in runs if run.arm == "scratch"]}
    specs = dict.fromkeys(run.weights for run in runs if run.arm == "transfer")
    found = scratch | {spec: [run for run in runs if run.arm == "transfer" and run.weights == spec] for spec in specs}
    return {name: members for name, members in found.items() if members}


def mean_curve(runs: Sequence[Run]) -> Curve:
    """Mean of the validation curves at the steps that all runs have."""
    curves = [dict(run.curve) for run in runs]
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return [(step, mean(curve[step] for curve in curves)) for step in steps]


def steps_to_reach(curve: Sequence[tuple[int, float]], score: float) -> int | None:
    """The first step at which a validation curve reaches ``score``, None where it never does."""
    return next((step for step, value in curve if value >= score), None)


def catching_up(runs: Sequence[Run], scratch: Sequence[Run]) -> tuple[int | None, int, float] | None:
    """When the mean curve reaches the final value from scratch: that step, the last step, and the value.

    The step is ``None`` where it never does, the whole where there is no curve to compare.
    """
    ours, theirs = mean_curve(runs), mean_curve(scratch)
    if not ours or not theirs:
        return None
    last, final = theirs[-1]
    return steps_to_reach(ours, final), last, final


def changes_of(runs: Sequence[Run], scratch: Sequence[Run]) -> list[float]:
    """Dice of each run less that of its twin from scratch, which has its seed and learnt from the same cases."""
    twins = {(run.cases, run.seed): run.dice for run in scratch}
    pairs = [(run.dice, twins.get((run.cases, run.seed))) for run in runs]
    return [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]


def start_table(runs: Sequence[Run]) -> str:
    """A row per start, in Markdown: for each number of cases Dice, its change, and the steps to scratch's final curve.

    Dice and change are means over the seeds, ± their standard deviation; changes are taken seed by seed.
    """
    counts = sorted({run.cases for run in runs})
    seeds = len({run.seed for run in runs})
    heads = [f"Dice, {count} case(s) | change | steps" for count in counts]
    lines = [f"| start, {seeds} seed(s) | {' | '.join(heads)} |", "|---" * (1 + 3 * len(counts)) + "|"]
    groups = starts_of(runs)
    for name, members in groups.items():
        cells = []
        for count in counts:
            own, scratch = ([run for run in part if run.cases == count] for part in (members, groups.get(SCRATCH, [])))
            cells += [mean_sd([run.dice for run in own if run.dice is not None])]
            cells += (
                ["", ""] if name == SCRATCH else [mean_sd(changes_of(own, scratch), sign="+"), _steps(own, scratch)]
            )
        lines.append(f"| {markdown(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_sd(values: Sequence[float], *, sign: str = "") -> str:
    """Mean and standard deviation of a sample in words.

    Example:
        >>> mean_sd([0.7, 0.8]), mean_sd([0.1], sign="+"), mean_sd([])
        ('0.750 ± 0.071', '+0.100', '–')
    """
    if not values:
        return "–"
    told = f"{mean(values):{sign}.3f}"
    return f"{told} ± {stdev(values):.3f}" if len(values) > 1 else told


def _steps(runs: Sequence[Run], scratch: Sequence[Run]) -> str:
    if (found := catching_up(runs, scratch)) is None:
        return "–"
    reached, last, _ = found
    return f"not in {last}" if reached is None else f"{reached} of {last}"
