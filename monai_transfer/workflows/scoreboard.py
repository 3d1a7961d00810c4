"""Adaptation methods compared on the user's own data, over several seeds; a second call goes on where one stopped."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from monai_transfer.bundle.arms import (
    APPEARANCES,
    AUGMENTATION,
    DEFAULT,
    ORACLE,
    SOURCE_ONLY,
    Arm,
)
from monai_transfer.bundle.configs import Configs, adaptation_configs
from monai_transfer.bundle.domains import Domains
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.methods import known_methods
from monai_transfer.bundle.plan import Plan
from monai_transfer.errors import UserError
from monai_transfer.evaluation import Scoreboard, ScoredRun, ScoreTable
from monai_transfer.figures.scoreboard_report import write_scoreboard_report
from monai_transfer.files import sha256, write_text
from monai_transfer.machine import hardware, peak_memory_mb, reset_peak_memory, versions
from monai_transfer.workflows.adaptation import Say
from monai_transfer.workflows.scoring import overlay_cases, score_bundle

METHODS = (DEFAULT, AUGMENTATION, "MeanTeacher", "DANN")
"""What is compared when nothing is named."""


@dataclass
class Comparison:
    """The trainings of a scoreboard, as far as they are done.

    Attributes:
        domains: the cases.
        plan: the choices; its seed is replaced by each of the seeds.
        output: gets ``runs/<arm>/seed_<n>`` and the reports.
        runs: arm -> seed -> run.
        failures: arm -> why it could not be trained.
        reused: how many runs were found finished.
    """

    domains: Domains
    plan: Plan
    output: Path
    runs: dict[str, dict[int, ScoredRun]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    reused: int = 0

    @cached_property
    def contents(self) -> list[list[str]]:
        """Name and checksums of every case: those of the contents, so that a data set may be copied or restored."""
        parts = (self.domains.source, self.domains.target, self.domains.test, *self.domains.further.values())
        cases = [case for part in parts if part is not None for case in part.cases]
        return [
            [case.name, *(sha256(path) for path in (*case.images, *([case.label] if case.label else [])))]
            for case in cases
        ]

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
        say: called with a sentence when a run begins.

    Raises:
        UserError: without test labels or seeds, or when source-only or the oracle cannot be trained.
    """
    if domains.test is None:
        raise UserError(f"{domains.target.root} has no labels to score with; name labelled target cases with --test.")
    if not seeds:
        raise UserError("--seeds is empty; give at least one whole number, such as 0,1,2.")
    result = Comparison(domains, plan, Path(output))
    wanted = [SOURCE_ONLY, *([ORACLE] if domains.has_oracle else []), *arms]
    every = [(arm, seed) for seed in dict.fromkeys(seeds) for arm in wanted]
    for number, (arm, seed) in enumerate(every, start=1):
        if arm.name in result.failures:
            continue
        where = f"{number}/{len(every)} {arm.name.replace('_', '-')}, seed {seed}"
        try:
            run = _run(result, arm, seed, say=_after(where, say))
        except UserError as error:
            if arm in (SOURCE_ONLY, ORACLE):
                raise
            result.failures[arm.name] = str(error)
            result.runs.pop(arm.name, None)  # a mean over other seeds than the others' would mislead
            say(f"{where}: {error}")
        else:
            result.runs.setdefault(arm.name, {})[seed] = run
    return result


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


def _run(comparison: Comparison, arm: Arm, seed: int, *, say: Say) -> ScoredRun:
    """The finished run of this configuration, or a new one."""
    domains, plan = comparison.domains, replace(comparison.plan, seed=seed)
    folder = _folder(comparison.output, arm.name, seed)
    configs = adaptation_configs(plan, domains, arm, title=f"{arm.name} {seed}")
    configuration = _configuration(configs, plan, comparison.contents)
    if (found := _finished(folder, configuration)) is not None:
        say("finished before")
        comparison.reused += 1
        return found
    again = (
        " (what was here is of another configuration, other files or other versions)"
        if (folder / "result.json").exists()
        else ""
    )
    bundle = BundleFolder.create("domain_adaptation", folder, configs=configs, overwrite=True)
    say(f"{plan.steps} steps on {plan.device}{again}")
    reset_peak_memory()
    start = perf_counter()
    bundle.run("train", device=plan.device)
    seconds, memory = perf_counter() - start, _peak_memory_mb(plan.device)
    if domains.test is None:
        raise ValueError("a comparison has test cases")
    table = score_bundle(bundle, domains.test, device=str(plan.device))
    run = ScoredRun(table, round(seconds, 3), memory)
    content = {"configuration": configuration, "arm": arm.name, "seed": seed, "seconds": run.seconds,
               "peak_memory_mb": memory, "scores": table.as_dict()}  # fmt: skip
    write_text(folder / "result.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return run


def _finished(folder: Path, configuration: str) -> ScoredRun | None:
    try:
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if content["configuration"] != configuration or not (folder / "models" / "model.pt").is_file():
            return None
        return ScoredRun(ScoreTable.from_dict(content["scores"]), content["seconds"], content["peak_memory_mb"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _configuration(configs: Configs, plan: Plan, contents: Sequence[Sequence[str]]) -> str:
    """A checksum of all that decides a run: configurations, contents of the files, device and versions."""
    parts: Mapping[str, Any] = {
        "configs": {name: configs[name] for name in ("train", "inference")},
        "files": contents,
        "device": plan.device.type,
        "versions": {name: versions().get(name) for name in ("monai-transfer", "monai", "torch")},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1024**2, 1)
    return peak_memory_mb()


def _folder(output: Path, arm: str, seed: int) -> Path:
    return output / "runs" / arm / f"seed_{seed}"
