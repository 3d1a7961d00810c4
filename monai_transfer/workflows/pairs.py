"""A bench: adaptation methods compared on a list of pairs of domains; a second call goes on where one stopped."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_transfer.bundle.arms import Arm
from monai_transfer.bundle.pairs import Pair
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains, PlanOptions
from monai_transfer.errors import UserError
from monai_transfer.evaluation.pairs import PairTable
from monai_transfer.evaluation.predicted_dice import write_known_labels
from monai_transfer.evaluation.scoreboard import Scoreboard
from monai_transfer.figures.pairs_report import write_pairs_report
from monai_transfer.workflows.adaptation import Say, plan_from
from monai_transfer.workflows.scoreboard import Comparison, Train, report_comparison, trained
from monai_transfer.workflows.scored_run import PlannedRun

logger = logging.getLogger(__name__)


@dataclass
class Bench:
    """Pairs that are ready to be compared on, or have been.

    Attributes:
        pairs: as they were given.
        planned: name of a pair -> its cases and choices.
        boards: name of a pair -> its scoreboard, once it has one.
        failures: name of a pair -> why it could not be planned or scored.
        reused: how many runs were found finished.
    """

    pairs: Sequence[Pair]
    planned: dict[str, tuple[Domains, Plan]] = field(default_factory=dict)
    boards: dict[str, Scoreboard] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    reused: int = 0

    @property
    def table(self) -> PairTable:
        """The scoreboards side by side."""
        kept_back = [pair.name for pair in self.pairs if pair.kept_back]
        return PairTable(self.boards, self.failures, kept_back)

    @property
    def is_whole(self) -> bool:
        """Whether no pair failed, and no method on any."""
        return not self.failures and not any(board.failures for board in self.boards.values())


def plan_pairs(pairs: Sequence[Pair], options: PlanOptions | None = None, weights: str | None = None) -> Bench:
    """Check every case of every pair and plan the trainings; a pair with a fault is named among the failures.

    Args:
        pairs: see :func:`~monai_transfer.bundle.pairs.read_pairs`.
        options: go before those of the pairs.
        weights: what every arm starts from, as for :func:`~monai_transfer.workflows.adaptation.plan_from`.
    """
    bench = Bench(pairs)
    for pair in pairs:
        try:
            domains = pair.domains()
            chosen = pair.options(options or PlanOptions())
            bench.planned[pair.name] = domains, plan_from(domains, weights, **chosen)
        except UserError as error:
            bench.failures[pair.name] = str(error)
    return bench


def compare_pairs(
    bench: Bench,
    output: str | Path,
    *,
    arms: Sequence[Arm],
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int = 1,
    cluster: str | None = None,
    say: Say = lambda message: None,
) -> PairTable:
    """Compare methods on every pair, as :func:`~monai_transfer.workflows.scoreboard.compare_methods` does on one.

    Each pair has a folder of its own, with its runs and its scoreboard. A pair that fails is named among the failures,
    and the others go on. The table of all pairs, ``pairs.html``, ``.json`` and ``.csv``, is written anew after each.

    Args:
        bench: of :func:`plan_pairs`; gets the scoreboards.
        output: gets a folder per pair.
        arms: what is compared, see :func:`~monai_transfer.workflows.scoreboard.choose_arms`.
        seeds: one training of each arm with each.
        jobs: trainings at once; more than one run in processes of their own, with one thread each.
        cluster: the trainings are tasks of Dask there, see :func:`~monai_transfer.workflows.cluster.connected`.
        say: called with a sentence when a run begins.
    """
    folder = Path(output)
    comparisons: dict[str, Comparison] = {}
    unfinished: list[PlannedRun] = []
    for name, (domains, plan) in bench.planned.items():
        try:
            comparison = Comparison(domains, plan, folder / name, arms, seeds)
            unfinished += comparison.unfinished
            comparisons[name] = comparison
        except UserError as error:
            bench.failures[name] = str(error)
    with trained(unfinished, jobs, cluster) as train:
        for name, comparison in comparisons.items():
            _score_pair(bench, name, comparison, train, say)
            _report(bench, folder, arms=arms, seeds=seeds)
    if not comparisons:
        _report(bench, folder, arms=arms, seeds=seeds)
    return bench.table


def _score_pair(bench: Bench, name: str, comparison: Comparison, train: Train, say: Say) -> None:
    try:
        comparison.fill(train, say=lambda text: say(f"{name}: {text}"))
        report_comparison(comparison)
        bench.boards[name] = comparison.scoreboard
    except UserError as error:
        bench.failures[name] = str(error)
        say(f"{name}: {error}")
    except Exception as error:  # a bench runs for a night: no fault of one pair may cost the others
        logger.exception("%s failed", name)
        bench.failures[name] = f"{type(error).__name__}: {error}"
    bench.reused += comparison.reused


def _report(bench: Bench, folder: Path, *, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    table, page = bench.table, folder / "pairs.html"
    run = {"methods": [arm.name for arm in arms], "seeds": list(dict.fromkeys(seeds))}
    trainings = {
        name: f"{plan.source_modality.upper()} → {plan.target_modality.upper()}, {len(domains.source)} source, "
        f"{len(domains.target)} target and {len(domains.test or ())} test cases; {plan.network} on "
        f"{' × '.join(f'{step:g}' for step in plan.spacing)} mm, {plan.steps} steps on {plan.device}"
        for name, (domains, plan) in bench.planned.items()
    }
    write_pairs_report(page, table, run={**run, "pairs": trainings})
    table.write_json(page.with_suffix(".json"))
    table.write_csv(page.with_suffix(".csv"))
    write_known_labels(folder / "labels.csv", table.known_labels)
