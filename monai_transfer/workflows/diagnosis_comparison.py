"""Adaptation methods for a diagnosis side by side, over several seeds; a second call goes on where one stopped."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_transfer.bundle.diagnosis_plan import DiagnosisPlan, ImageKind
from monai_transfer.datasets import ExamDataset
from monai_transfer.errors import UserError
from monai_transfer.evaluation.gap import gap_recovered
from monai_transfer.files import write_record, write_text
from monai_transfer.machine import hardware, versions
from monai_transfer.text import markdown
from monai_transfer.workflows.diagnosis_adaptation import DiagnosisDomains, oracle_split, train_diagnosis_arm
from monai_transfer.workflows.diagnosis_scoring import score_exams
from monai_transfer.workflows.diagnosis_source_free import adapt_diagnosis_bundle

TENT = "TENT"
"""What adapts the finished source-only network, in place of a training."""

DIAGNOSIS_METHODS = ("DANN", "CDAN", "DeepCORAL", "MMD", "AdaBN", "EntropyMinimization", "MeanTeacher", TENT)
"""What is compared when nothing is named: all methods that do not look at label maps."""

_SOURCE_ONLY, _ORACLE = "source-only", "oracle"


@dataclass(frozen=True)
class DiagnosisComparison:
    """The AUC on the target's test examinations of every arm with every seed.

    Attributes:
        areas: arm -> one AUC per seed; ``source-only``, the methods, ``oracle``.
        seeds: in the order of the areas.
        test: what was scored.

    Example:
        >>> areas = {"source-only": (0.6, 0.6), "DANN": (0.7, 0.8), "oracle": (0.9, 0.9)}
        >>> made = DiagnosisComparison(areas, seeds=(0, 1), test="mr: 40 examinations")
        >>> round(made.share("DANN"), 2)
        0.5
        >>> print(made.table.splitlines()[3])
        | DANN | 0.750 ± 0.050 | 50 % |
    """

    areas: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    test: str

    def mean(self, arm: str) -> float:
        """Mean AUC over the seeds."""
        return float(np.mean(self.areas[arm]))

    def share(self, arm: str) -> float | None:
        """Share of the gap between the means of source-only and oracle; None where there is no gap to close."""
        if _ORACLE not in self.areas:
            return None
        return gap_recovered(self.mean(_SOURCE_ONLY), self.mean(arm), self.mean(_ORACLE))

    @property
    def table(self) -> str:
        """A row per arm, in Markdown."""
        rows = [f"| arm | AUC, {len(self.seeds)} seed(s) | gap recovered |", "|---|---|---|"]
        for arm, values in self.areas.items():
            share = self.share(arm) if arm not in (_SOURCE_ONLY, _ORACLE) else None
            told = "" if share is None else f"{100 * share:.0f} %"
            rows.append(f"| {markdown(arm)} | {np.mean(values):.3f} ± {np.std(values):.3f} | {told} |")
        return "\n".join(rows)

    @property
    def sentences(self) -> list[str]:
        """The result in plain words, honest where nothing helps."""
        methods = {arm: self.mean(arm) for arm in self.areas if arm not in (_SOURCE_ONLY, _ORACLE)}
        best = max(methods, key=lambda arm: methods[arm])
        gain = methods[best] - self.mean(_SOURCE_ONLY)
        spread = float(np.std(np.subtract(self.areas[best], self.areas[_SOURCE_ONLY])))
        if gain <= spread:
            first = f"No method is better than source-only by more than the seeds differ; the best is {best}."
        else:
            first = f"{best} brings {gain:.3f} of AUC over source-only (± {spread:.3f} over the seeds)."
        worse = [arm for arm, area in methods.items() if area < self.mean(_SOURCE_ONLY)]
        return [first, *([f"Worse than source-only: {', '.join(worse)}."] if worse else []), f"Scored: {self.test}."]

    def as_dict(self) -> dict[str, Any]:
        """The content of ``comparison.json``."""
        shares = {arm: self.share(arm) for arm in self.areas if arm not in (_SOURCE_ONLY, _ORACLE)}
        return {
            "sentences": self.sentences,
            "areas": {arm: list(values) for arm, values in self.areas.items()},
            "gap_recovered": shares,
            "seeds": list(self.seeds),
            "test": self.test,
        }


def compare_diagnosis(
    domains: DiagnosisDomains,
    plan: DiagnosisPlan,
    kind: ImageKind,
    output: str | Path,
    *,
    methods: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: Sequence[int],
    say: Callable[[str], None] = lambda message: None,
) -> DiagnosisComparison:
    """Train source-only, each method and the oracle with each seed; write ``comparison.json`` and ``comparison.md``.

    Args:
        domains: the examinations.
        plan: the choices of every training but the seed.
        kind: of the target's images.
        output: folder of the runs and the table; what is finished there is kept.
        methods: name -> definitions; of :data:`TENT` none.
        seeds: one training of every arm with each.
        say: called with a sentence before each training.

    Raises:
        UserError: the target has no labelled examinations to score, or a run in ``output`` is of another comparison.
    """
    if domains.test is None:
        raise UserError(f"{domains.target.root} has no labels to score with: name labelled examinations with --test.")
    areas: dict[str, list[float]] = {}
    for seed in seeds:
        own = replace(plan, seed=seed)
        arms: dict[str, Any] = {_SOURCE_ONLY: (domains.source, own, ()), **{
            name: (domains.source, own, definitions) for name, definitions in methods.items()
        }}  # fmt: skip
        if domains.target.labelled.exams:
            arms[_ORACLE] = (oracle_split(domains, own), replace(own, kind=kind), ())
        for arm, (split, choices, definitions) in arms.items():
            say(f"{arm}, seed {seed}" + ("" if arm == TENT else f": {plan.steps} steps on {plan.device}"))
            place, device = Path(output) / "runs" / arm / f"seed_{seed}", str(plan.device)
            if arm == TENT:  # source-only comes first
                trained = place.parents[1] / _SOURCE_ONLY / place.name
                bundle = adapt_diagnosis_bundle(trained, domains.target, place, device=device, overwrite=True).bundle
            else:
                bundle = train_diagnosis_arm(split, domains.target, choices, kind, place, definitions, resume=True)
            scores = score_exams(bundle.root, domains.test, device=device)
            areas.setdefault(arm, []).append(scores.auc.value)
    result = DiagnosisComparison(
        {arm: tuple(values) for arm, values in areas.items()}, tuple(seeds), _described(domains.test)
    )
    facts = {"hardware": hardware(), "versions": versions()}
    write_record(Path(output) / "comparison.json", {**result.as_dict(), **facts})
    write_text(Path(output) / "comparison.md", "\n\n".join([result.table, *map(markdown, result.sentences)]) + "\n")
    return result


def _described(test: ExamDataset) -> str:
    return f"{test.root}, {len(test)} examinations"
