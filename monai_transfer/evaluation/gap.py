"""How much of the gap between the domains was closed, in figures and in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_transfer.evaluation.selection import CheckpointChoice, Choice
from monai_transfer.evaluation.table import ScoreTable, readable
from monai_transfer.files import write_record

SMALLEST_GAP = 0.01
CHANCE = 0.005
WEAK_ORACLE = 0.5


def gap_recovered(source_only: float, adapted: float, oracle: float) -> float | None:
    r"""Return the share of the gap that adaptation recovered, on mean foreground Dice.

    .. math:: \frac{\text{adapted} - \text{source-only}}{\text{oracle} - \text{source-only}}

    Negative when adaptation made things worse, above 1 when it passed the oracle; never clipped.

    Returns:
        None when the oracle exceeds source-only by no more than 0.01 (or a score is NaN): a share of a gap that is
        not there means nothing.
    """
    if any(math.isnan(score) for score in (source_only, adapted, oracle)):
        return None
    gap = oracle - source_only
    # the margin is for 0.51 - 0.50, which floating point makes a little more than 0.01
    return None if gap <= SMALLEST_GAP + 1e-9 else (adapted - source_only) / gap


@dataclass(frozen=True)
class AdaptationSummary:
    """The scores of one adaptation on the same held target test subjects.

    Attributes:
        source_only: floor, trained on source labels alone. None when the target has no labels.
        adapted: the adapted network. None when the target has no labels.
        oracle: ceiling, trained on target labels with the same budget. None when it was not trained.
        seeds: the seeds of the runs; the tables of several seeds are joined (:meth:`ScoreTable.joined`).
        methods: scores of each method by name, when several were compared.
        choice: what the bundle keeps, judged without labels; None when there was no choice.
        checkpoint: which checkpoint of the adapted network is used; None when there was no choice.
        labelled_target: names of the target cases whose labels the adapted network learnt.
        start: SPEC of the weights that every arm started from; empty for fresh ones.
        hardware: see :func:`~monai_transfer.machine.hardware`.
        versions: see :func:`~monai_transfer.machine.versions`.

    Example:
        >>> AdaptationSummary(source_only=None, adapted=None).headline
        'The target has no labels, so nothing could be scored.'
    """

    source_only: ScoreTable | None
    adapted: ScoreTable | None
    oracle: ScoreTable | None = None
    seeds: tuple[int, ...] = ()
    methods: Mapping[str, ScoreTable] = field(default_factory=dict)
    choice: Choice | None = None
    checkpoint: CheckpointChoice | None = None
    labelled_target: tuple[str, ...] = ()
    start: str = ""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arms(self) -> dict[str, ScoreTable]:
        """The tables there are, by the words of the reports: source-only, adapted, oracle."""
        named = {"source-only": self.source_only, "adapted": self.adapted, "oracle": self.oracle}
        return {name: table for name, table in named.items() if table is not None}

    @property
    def gap_recovered(self) -> float | None:
        """The share of the gap recovered on mean foreground Dice, None when it is undefined."""
        return self._gap(lambda table: table.mean("dice"))

    @property
    def gap_per_label(self) -> dict[str, float | None]:
        """The share of the gap recovered on each label's mean Dice."""
        labels = self.adapted.labels if self.adapted else ()
        return {label: self._gap(lambda table, name=label: _dice_of(table, name)) for label in labels}

    def _gap(self, dice: Any) -> float | None:
        if self.source_only is None or self.adapted is None or self.oracle is None:
            return None
        return gap_recovered(dice(self.source_only), dice(self.adapted), dice(self.oracle))

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        if self.source_only is None or self.adapted is None:
            return "The target has no labels, so nothing could be scored."
        floor, adapted = self.source_only.mean("dice"), self.adapted.mean("dice")
        move = f"from {floor:.2f} (source-only) to {adapted:.2f} on {_subjects(self.adapted)}"
        if self.oracle is None:
            verb = _verb(adapted - floor)
            return f"Adaptation {verb} mean Dice {move}; no oracle was trained, so the share of the gap is unknown."
        ceiling = self.oracle.mean("dice")
        share = self.gap_recovered
        if share is None:
            return (
                f"There was no gap to recover: source-only reaches a mean Dice of {floor:.2f} on "
                f"{_subjects(self.adapted)}, the oracle {ceiling:.2f}; the adapted network has {adapted:.2f}."
            )
        if adapted < floor:
            return f"Adaptation made things worse: mean Dice fell {move}; the oracle reaches {ceiling:.2f}."
        recovered = f"Adaptation recovered {100 * share:.0f} % of the gap"
        return f"{recovered}: mean Dice went {move}; the oracle reaches {ceiling:.2f}."

    @property
    def sentences(self) -> list[str]:
        """The result in plain words: the headline, the subjects, the choice, then every warning."""
        told = [*self._labels_learnt(), *self._subjects_moved(), *self._checkpoint_told(), *self._choice_told()]
        return [self.headline, *told, *self.warnings]

    def _labels_learnt(self) -> list[str]:
        if not self.labelled_target:
            return []
        count, names = len(self.labelled_target), ", ".join(self.labelled_target)
        return [f"The adapted network also learnt the labels of {count} target case(s), {names}; source-only did not."]

    def _subjects_moved(self) -> list[str]:
        if self.source_only is None or self.adapted is None:
            return []
        cases = [case for case in self.adapted.cases if case in self.source_only.cases]
        better = sum(self.adapted.case_mean(case) > self.source_only.case_mean(case) for case in cases)
        return [f"Mean Dice rose in {better} of {len(cases)} test subjects."]

    def _checkpoint_told(self) -> list[str]:
        if self.checkpoint is None:
            return []
        count = len(self.checkpoint.scores)
        told = f"Of {count} checkpoints, judged without labels, the one of step {self.checkpoint.step} is used"
        if self.checkpoint.shortfall is None:
            return [f"{told}."]
        short = self.checkpoint.shortfall
        rank = "it is the best one" if short == 0 else f"the best one has {short:.3f} mean Dice more"
        return [f"{told}; by the labels of the test subjects {rank}."]

    def _choice_told(self) -> list[str]:
        if self.choice is None:
            return []
        if self.choice.kept == "adapted":
            told = [f"Judged without labels, the bundle keeps the adapted network: {self.choice.reason}."]
        else:
            told = [
                "The adapted network looks worse than source-only without labels, so the bundle keeps source-only's "
                f"weights: {self.choice.reason}."
            ]
        if self.source_only is not None and self.adapted is not None:
            gain = self.adapted.mean() - self.source_only.mean()
            cost = -gain if self.choice.kept == "adapted" else gain
            if cost > CHANCE:
                told.append(f"By the labels of the test subjects this choice costs {cost:.2f} mean Dice.")
        return told

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before trusting the figures: labels made worse, missed, few subjects."""
        if self.source_only is None or self.adapted is None:
            return []
        found = _labels_made_worse(self.source_only, self.adapted) + _counting_warnings("adapted", self.adapted)
        if self.oracle is not None and self.oracle.mean() + CHANCE < self.adapted.mean():
            found.append("The adapted network passed the oracle: the oracle's budget or data were too small.")
        if self.oracle is not None and self.oracle.mean() < WEAK_ORACLE:
            found.append(
                f"The oracle itself reaches a mean Dice of only {self.oracle.mean():.2f}: the budget was too small for "
                "the share of the gap to say much."
            )
        if len(self.adapted.cases) < 5:
            found.append(
                f"Scored on {_subjects(self.adapted)} only: small differences between labels or methods can be chance."
            )
        return found

    def as_report(self) -> dict[str, Any]:
        """Return ``report.json``: scores, gap recovered, seeds, methods, hardware and versions."""
        return {
            "headline": self.headline,
            "source_only": self.source_only.figures() if self.source_only else None,
            "adapted": self.adapted.figures() if self.adapted else None,
            "oracle": self.oracle.figures() if self.oracle else None,
            "gap_recovered": self.gap_recovered,
            "gap_recovered_per_label": self.gap_per_label,
            "kept": self.choice.kept if self.choice else "adapted",
            "choice": self.choice.as_dict() if self.choice else None,
            "checkpoint": self.checkpoint.as_dict() if self.checkpoint else None,
            "labelled_target": list(self.labelled_target),
            "start": self.start or None,
            "warnings": self.warnings,
            "seeds": list(self.seeds),
            "methods": {name: self._method(table) for name, table in self.methods.items()},
            "hardware": dict(self.hardware),
            "versions": dict(self.versions),
        }

    def _method(self, table: ScoreTable) -> dict[str, Any]:
        share = None
        if self.source_only is not None and self.oracle is not None:
            share = gap_recovered(self.source_only.mean(), table.mean(), self.oracle.mean())
        return {**table.figures(), "gap_recovered": share}

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_report`."""
        write_record(path, self.as_report())


def _dice_of(table: ScoreTable, label: str) -> float:
    return table.summary(label).mean["dice"]


def _subjects(table: ScoreTable) -> str:
    n = len(table.cases)
    return f"{n} target test subject" + ("" if n == 1 else "s")


def _verb(change: float) -> str:
    if abs(change) <= CHANCE:
        return "left unchanged"
    return "raised" if change > 0 else "lowered"


def _labels_made_worse(before: ScoreTable, after: ScoreTable) -> list[str]:
    fallen = []
    for label in after.labels:
        floor, dice = _dice_of(before, label), _dice_of(after, label)
        if dice < floor - CHANCE:
            fallen.append(f"{readable(label)} (Dice {floor:.2f} → {dice:.2f})")
    return [f"Adaptation made things worse on {_listed(fallen)}."] if fallen else []


def _counting_warnings(arm: str, table: ScoreTable) -> list[str]:
    summaries = table.summaries.values()
    missed = [f"{readable(s.label)} ({s.missed} of {s.cases} subjects)" for s in summaries if s.missed]
    invented = [f"{readable(s.label)} ({s.invented} of {s.cases} subjects)" for s in summaries if s.invented]
    found = []
    if missed:
        found.append(f"The {arm} network missed altogether {_listed(missed)}.")
    if invented:
        found.append(f"The {arm} network found where there is none {_listed(invented)}.")
    if table.without_prediction:
        found.append(f"The {arm} network has no prediction for {_listed(table.without_prediction)}.")
    return found


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
