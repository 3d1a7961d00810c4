"""Adaptation methods compared on the user's own data, over several seeds; a second call goes on where one stopped."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from monai_transfer.bundle.arms import APPEARANCES, AUGMENTATION, DEFAULT, ORACLE, SOURCE_ONLY, Arm, describe_start
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.methods import known_methods
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains
from monai_transfer.errors import UserError
from monai_transfer.evaluation import Scoreboard, ScoredRun
from monai_transfer.figures.scoreboard_report import write_scoreboard_report
from monai_transfer.files import sha256
from monai_transfer.machine import hardware, versions
from monai_transfer.workflows.adaptation import Say
from monai_transfer.workflows.scored_run import PlannedRun
from monai_transfer.workflows.scoring import overlay_cases
from monai_transfer.workflows.side_by_side import side_by_side

METHODS = (DEFAULT, AUGMENTATION, "MeanTeacher", "DANN")
"""What is compared when nothing is named."""

Train = Callable[[PlannedRun, Say], ScoredRun]
"""Trains a run, or waits for it; raises ``UserError`` where it cannot be trained."""


@dataclass
class Comparison:
    """The trainings of a scoreboard, as far as they are done.

    Attributes:
        domains: the cases.
        plan: the choices; its seed is replaced by each of the seeds.
        output: gets ``runs/<arm>/seed_<n>`` and the reports.
        arms: what is compared with source-only and the oracle.
        seeds: one training of each arm with each.
        runs: arm -> seed -> run.
        failures: arm -> why it could not be trained.
        reused: how many runs were found finished.

    Raises:
        UserError: without test labels or seeds.
    """

    domains: Domains
    plan: Plan
    output: Path
    arms: Sequence[Arm]
    seeds: Sequence[int]
    runs: dict[str, dict[int, ScoredRun]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    reused: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be scored."""
        if self.domains.test is None:
            raise UserError(
                f"{self.domains.target.root} has no labels to score with; name labelled target cases with --test."
            )
        if not self.seeds:
            raise UserError("--seeds is empty; give at least one whole number, such as 0,1,2.")

    @cached_property
    def contents(self) -> list[list[str]]:
        """Name and checksums of every case: those of the contents, so that a data set may be copied or restored."""
        parts = (self.domains.source, self.domains.target, self.domains.test, *self.domains.further.values())
        cases = [case for part in parts if part is not None for case in part.cases]
        return [
            [case.name, *(sha256(path) for path in (*case.images, *([case.label] if case.label else [])))]
            for case in cases
        ]

    @cached_property
    def planned(self) -> list[PlannedRun]:
        """Every run, seed by seed: an interrupted comparison has whole seeds."""
        arms = [SOURCE_ONLY, *([ORACLE] if self.domains.has_oracle else []), *self.arms]
        return [
            PlannedRun(
                self.domains,
                arm.planned(replace(self.plan, seed=seed)),
                arm,
                _folder(self.output, arm.name, seed),
                self.contents,
            )
            for seed in dict.fromkeys(self.seeds)
            for arm in arms
        ]

    @cached_property
    def found(self) -> dict[Path, ScoredRun]:
        """Folder -> run, of those that were finished when this was first asked."""
        return {planned.folder: run for planned in self.planned if (run := planned.finished()) is not None}

    @property
    def unfinished(self) -> list[PlannedRun]:
        """The runs that have to be trained."""
        return [planned for planned in self.planned if planned.folder not in self.found]

    @property
    def scoreboard(self) -> Scoreboard:
        """The runs side by side."""
        methods = {name: runs for name, runs in self.runs.items() if name not in (SOURCE_ONLY.name, ORACLE.name)}
        return Scoreboard(
            source_only=self.runs[SOURCE_ONLY.name],
            oracle=self.runs.get(ORACLE.name, {}),
            methods=methods,
            failures=self.failures,
            default=DEFAULT,
            hardware=hardware(),
            versions=versions(),
        )

    def bundle(self, arm: str, seed: int) -> BundleFolder:
        """The bundle of a finished run."""
        return BundleFolder(_folder(self.output, arm, seed))

    def fill(self, train: Train, *, say: Say = lambda message: None) -> None:
        """Take what was found finished and train the rest.

        Args:
            train: of :func:`trained`.
            say: called with a sentence when a run begins.

        Raises:
            UserError: when source-only or the oracle cannot be trained.
        """
        for number, planned in enumerate(self.planned, start=1):
            arm, seed = planned.arm, planned.plan.seed
            if arm.name in self.failures:
                continue
            where = f"{number}/{len(self.planned)} {arm.name.replace('_', '-')}, seed {seed}"
            try:
                run = self._run(planned, train, say=_after(where, say))
            except UserError as error:
                if arm in (SOURCE_ONLY, ORACLE):
                    raise
                self.failures[arm.name] = str(error)
                self.runs.pop(arm.name, None)  # a mean over other seeds than the others' would mislead
                say(f"{where}: {error}")
            else:
                self.runs.setdefault(arm.name, {})[seed] = run

    def _run(self, planned: PlannedRun, train: Train, *, say: Say) -> ScoredRun:
        if (found := self.found.get(planned.folder)) is None:
            return train(planned, say)
        say("finished before")
        self.reused += 1
        return planned.observed(found)


def choose_arms(names: Sequence[str] | None = None) -> list[Arm]:
    """The arms of these names, each once; ``all`` stands for every augmentation and method that comes with the package.

    Raises:
        UserError: when a name is not a method.
    """
    spelled: list[str] = []
    for name in names or METHODS:
        every = [DEFAULT, *APPEARANCES, *(method for method in known_methods() if method != "SourceOnly")]
        spelled += every if name.lower() == "all" else [name]
    return list({arm.name: arm for arm in map(Arm.named, spelled)}.values())


def compare_methods(
    domains: Domains,
    plan: Plan,
    output: str | Path,
    *,
    arms: Sequence[Arm],
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int = 1,
    cluster: str | None = None,
    say: Say = lambda message: None,
) -> Comparison:
    """Train source-only, the oracle and every arm once per seed, and score each on the native grid.

    A finished run whose configuration and files are the same as now is not trained again. A method that cannot be
    trained (it needs another network, say) is named among the failures, and the others go on.

    Args:
        domains: the cases; the test cases must be labelled.
        plan: the choices of every training.
        output: folder of the runs.
        arms: what is compared, see :func:`choose_arms`.
        seeds: one training of each arm with each.
        jobs: trainings at once; more than one run in processes of their own, with one thread each.
        cluster: the trainings are tasks of Dask there, see :func:`~monai_transfer.workflows.cluster.connected`.
        say: called with a sentence when a run begins.

    Raises:
        UserError: without test labels or seeds, or when source-only or the oracle cannot be trained.
    """
    result = Comparison(domains, plan, Path(output), arms, seeds)
    with trained(result.unfinished, jobs, cluster) as train:
        result.fill(train, say=say)
    return result


def trained(runs: Sequence[PlannedRun], jobs: int, cluster: str | None = None) -> AbstractContextManager[Train]:
    """What trains runs when they are asked for, or waits for those that have begun when the block did.

    Args:
        runs: to train; only these may be asked for.
        jobs: so many at once; one at a time is trained in this process, more in processes of one thread each.
        cluster: on the workers of a cluster instead, as for :func:`~monai_transfer.workflows.cluster.connected`.
    """
    if cluster is not None:
        from monai_transfer.workflows.side_by_side_cluster import trained_on_cluster  # here: Dask

        return trained_on_cluster(runs, cluster)
    return side_by_side(runs, jobs) if jobs > 1 else nullcontext(lambda run, say: run.train(say))


def report_comparison(comparison: Comparison) -> Path:
    """Write ``scoreboard.html`` (returned), ``scoreboard.json`` and ``scoreboard.csv`` beside the runs."""
    board, plan, domains = comparison.scoreboard, comparison.plan, comparison.domains
    page = comparison.output / "scoreboard.html"
    run = {
        "source": f"{domains.source.root} ({plan.source_modality.upper()}), {len(domains.source)} labelled cases",
        "target": f"{domains.target.root} ({plan.target_modality.upper()}), {len(domains.target)} cases",
        "test": f"{', '.join(domains.test.names) if domains.test else 'none'}",
        "network": plan.network,
        "working grid": " × ".join(f"{step:g}" for step in plan.spacing) + " mm",
        "training": f"{plan.steps} steps of {plan.batch_size} case(s) per domain on {plan.device}, the same for all",
        "start": describe_start(plan.weights),
        "notes": " ".join(domains.notes),
    }
    write_scoreboard_report(page, board, overlays=_overlays(comparison, board), run=run)
    board.write_json(page.with_suffix(".json"))
    board.write_csv(page.with_suffix(".csv"))
    return page


def _overlays(comparison: Comparison, board: Scoreboard) -> list[Any]:
    """Cases of the first seed: source-only, the three best methods and the oracle."""
    seed, test = board.seeds[0], comparison.domains.test
    best = [name for name in board.ranked if seed in board.methods[name]][:3]
    arms = [SOURCE_ONLY.name, *best, *([ORACLE.name] if board.oracle else [])]
    if test is None or not best:
        return []
    words = {arm: arm.replace("_", "-") for arm in arms}
    bundles = {words[arm]: comparison.bundle(arm, seed) for arm in arms}
    scores = {words[arm]: comparison.runs[arm][seed].table for arm in arms}
    return overlay_cases(test, bundles, scores, order_by=best[0])


def _after(where: str, say: Say) -> Say:
    return lambda text: say(f"{where}: {text}")


def _folder(output: Path, arm: str, seed: int) -> Path:
    return output / "runs" / arm / f"seed_{seed}"
