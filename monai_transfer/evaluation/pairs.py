"""Adaptation methods over a list of pairs: the mean, the worst pair and label, and a choice that flatters none."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from monai_transfer.evaluation.pair_score import PairScore, Summary
from monai_transfer.evaluation.predicted_dice import KnownLabel, known_labels, learn_dice, own_errors, prediction_errors
from monai_transfer.evaluation.scoreboard import Scoreboard
from monai_transfer.evaluation.table import readable
from monai_transfer.files import write_record, write_text
from monai_transfer.text import csv_cell

_CSV_FIELDS = ("pair", "kept_back", "method", "dice", "dice_sd", "gap_recovered", "gap_recovered_sd", "worst_label",
               "worst_label_gap", "worst_label_difference", "negative_labels", "seconds", "peak_memory_mb",
               "chosen_on_the_others", "error")  # fmt: skip
_NOTHING: dict[str, Any] = {"hardware": {}, "versions": {}}


@dataclass(frozen=True)
class ChosenElsewhere:
    """A pair that took no part in choosing its method.

    Attributes:
        chosen: the method with the highest mean share of the gap over the other pairs.
        gap_recovered: that method's share here; ``None`` where it could not be trained here.
        dice: its mean Dice here.
    """

    chosen: str
    gap_recovered: float | None
    dice: float | None


@dataclass(frozen=True)
class PairTable:
    """The scoreboards of several pairs side by side.

    Attributes:
        boards: pair -> its scoreboard.
        failures: pair -> why it has none.
        kept_back: pairs that take no part in choosing, nor in the means over the others.

    Example:
        >>> PairTable(boards={}, failures={"ct-mr": "CT is not a folder."}).headline
        'No pair could be scored.'
    """

    boards: Mapping[str, Scoreboard]
    failures: Mapping[str, str] = field(default_factory=dict)
    kept_back: Sequence[str] = ()

    @cached_property
    def reports(self) -> dict[str, dict[str, Any]]:
        """Pair -> its scoreboard's report."""
        return {pair: board.as_report() for pair, board in self.boards.items()}

    @cached_property
    def scores(self) -> dict[str, dict[str, PairScore]]:
        """Pair -> method -> score."""
        return {
            pair: {
                method: PairScore.of(figures, report["source_only"]) for method, figures in report["methods"].items()
            }
            for pair, report in self.reports.items()
        }

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Every method by mean share of the gap, then by mean Dice, best first; those without a mean last."""
        names = dict.fromkeys(method for scores in self.scores.values() for method in scores)

        def rank(name: str) -> tuple[float, float]:
            found = self.summary(name, self.development or self.held)
            return -_or_nothing(found.gap_recovered), -_or_nothing(found.dice)

        return tuple(sorted(names, key=rank))

    @property
    def development(self) -> list[str]:
        """The pairs that methods are chosen on."""
        return [pair for pair in self.boards if pair not in self.kept_back]

    @property
    def held(self) -> list[str]:
        """The pairs that are kept back."""
        return [pair for pair in self.boards if pair in self.kept_back]

    def summary(self, method: str, pairs: Sequence[str]) -> Summary:
        """One method over some of the pairs.

        Args:
            method: its name.
            pairs: names of pairs that could be scored.
        """
        known = {pair: self.scores[pair][method] for pair in pairs if method in self.scores[pair]}
        shares = {pair: score.gap_recovered for pair, score in known.items() if score.gap_recovered is not None}
        labels = {pair: score.worst for pair, score in known.items()}
        worst = min(shares.items(), key=lambda item: item[1], default=None)
        return Summary(
            dice=_mean([score.dice for score in known.values() if score.dice is not None], of=len(pairs)),
            gap_recovered=_mean(list(shares.values()), of=len(self._with_gap(pairs))),
            worst_pair=worst,
            worst_label=min(labels.items(), key=lambda item: item[1].rank, default=None),
            negative_labels={pair: score.negative_labels for pair, score in known.items() if score.negative_labels},
        )

    @cached_property
    def left_out(self) -> dict[str, ChosenElsewhere]:
        """Pair -> the method that is best on all other pairs, scored on this one; pairs that are kept back choose none.

        What is best on all pairs was found on the very subjects that score it. A method found on the other pairs was
        not, so its score is what a new pair may expect.
        """
        found = {}
        for pair in self._with_gap(list(self.boards)):
            others = self._with_gap([other for other in self.development if other != pair])
            means = {method: self.summary(method, others).gap_recovered for method in self.methods if others}
            known = {method: mean for method, mean in means.items() if mean is not None}
            if known:
                chosen = max(known, key=lambda method: known[method])
                score = self.scores[pair].get(chosen)
                found[pair] = ChosenElsewhere(
                    chosen, score.gap_recovered if score else None, score.dice if score else None
                )
        return found

    def left_out_mean(self, pairs: Sequence[str]) -> float | None:
        """The mean share over pairs, each by the method that is best on the others; ``None`` where one has none."""
        shares = [self.left_out[pair].gap_recovered for pair in self._with_gap(pairs) if pair in self.left_out]
        return _mean([share for share in shares if share is not None], of=len(self._with_gap(pairs)))

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        pairs = self.development or self.held
        if not pairs or not self.methods:
            return "No pair could be scored."
        best = self.methods[0]
        found = self.summary(best, pairs)
        if found.gap_recovered is None or found.worst_pair is None:
            mean = "no" if found.dice is None else f"a mean Dice of {found.dice:.2f}"
            return f"{best} has {mean} over {len(pairs)} pair(s); no share of a gap is known for all of them."
        words = f"{best} recovers {_percent(found.gap_recovered)} of the gap on average over {len(pairs)} pair(s)"
        words += f", {_percent(found.worst_pair[1])} on the worst, {found.worst_pair[0]}"
        if (expected := self.left_out_mean(pairs)) is not None:
            words += f"; the method that is best on the other pairs recovers {_percent(expected)}"
        return f"{words}."

    @cached_property
    def known_labels(self) -> list[KnownLabel]:
        """Every label of every run with its Dice and what was seen of it without labels."""
        return [one for pair, board in self.boards.items() for one in known_labels(pair, board)]

    @cached_property
    def prediction_errors(self) -> dict[str, float]:
        """Pair -> mean absolute error of a Dice predicted without its labels, as the other pairs teach it."""
        return prediction_errors(self.known_labels, self.kept_back)

    @property
    def sentences(self) -> list[str]:
        """What there is to say beside the headline."""
        told = {
            "Predicted without labels, as the other pairs teach it, the Dice of a label": self.prediction_errors,
            "Estimated by the adapted bundle itself, the mean Dice of a label": own_errors(self.boards),
        }
        return [f"{what} is {_off(errors)}." for what, errors in told.items() if errors]

    @property
    def warnings(self) -> list[str]:
        """What a reader must know: what failed, and which labels fell below source-only."""
        found = [f"{pair} could not be scored: {reason}" for pair, reason in self.failures.items()]
        for pair, board in self.boards.items():
            found += [f"{method} could not be trained on {pair}: {reason}" for method, reason in board.failures.items()]
        for method in self.methods:
            fallen = self.summary(method, list(self.boards)).negative_labels
            parts = [f"{', '.join(map(readable, labels))} ({pair})" for pair, labels in fallen.items()]
            found += [f"{method} made things worse on {'; '.join(parts)}."] if parts else []
        fewest = min((len(board.seeds) for board in self.boards.values()), default=3)
        if fewest < 3:
            found.append(f"Only {fewest} seed(s): small differences between methods can be chance.")
        return found

    def as_report(self) -> dict[str, Any]:
        """Everything as JSON-ready values; an undefined figure is None."""
        first = next(iter(self.reports.values()), _NOTHING)
        return {
            "headline": self.headline,
            "pairs": {pair: self.figures(pair) for pair in self.boards}
            | {pair: {"kept_back": pair in self.kept_back, "error": why} for pair, why in self.failures.items()},
            "methods": {
                method: {
                    **self.summary(method, self.development).as_dict(),
                    "kept_back": self.summary(method, self.held).as_dict() if self.held else None,
                }
                for method in self.methods
            },
            "leave_one_pair_out": {
                "gap_recovered": self.left_out_mean(self.development),
                "kept_back": self.left_out_mean(self.held) if self.held else None,
                "pairs": {pair: asdict(left) for pair, left in self.left_out.items()},
            },
            "predicted_dice": {
                "mean_absolute_error": fmean(self.prediction_errors.values()) if self.prediction_errors else None,
                "pairs": self.prediction_errors,
                "labels": len(self.known_labels),
                "by_the_bundle": own_errors(self.boards),
                "rule": rule.as_dict() if (rule := learn_dice(self.known_labels, self.kept_back)) else None,
            },
            "warnings": self.warnings,
            "hardware": first["hardware"],
            "versions": first["versions"],
        }

    def figures(self, pair: str) -> dict[str, Any]:
        """Of a pair: its methods, and the seconds and the greatest memory of all its trainings."""
        report = self.reports[pair]
        arms = [report["source_only"], *([report["oracle"]] if report["oracle"] else []), *report["methods"].values()]
        return {
            "kept_back": pair in self.kept_back,
            "error": None,
            "seeds": report["seeds"],
            "source_only": report["source_only"]["dice"],
            "oracle": report["oracle"]["dice"] if report["oracle"] else None,
            "methods": {method: score.as_dict() for method, score in self.scores[pair].items()},
            "failures": report["failures"],
            "seconds": sum(arm["seconds"] * len(arm["seeds"]) for arm in arms),
            "peak_memory_mb": max(arm["peak_memory_mb"] for arm in arms),
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_report`."""
        write_record(path, self.as_report())

    def write_csv(self, path: Path) -> None:
        """Write one line per pair and method, source-only and the oracle among them, and one per pair that failed."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=_CSV_FIELDS, lineterminator="\n")
        writer.writeheader()
        for line in self._lines():
            rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in line.items()}
            writer.writerow({key: csv_cell(value) for key, value in rounded.items()})
        write_text(path, text.getvalue())

    def _with_gap(self, pairs: Iterable[str]) -> list[str]:
        """The pairs whose oracle is better than source-only."""
        return [pair for pair in pairs if any(s.gap_recovered is not None for s in self.scores[pair].values())]

    def _lines(self) -> Iterable[dict[str, Any]]:
        for pair, report in self.reports.items():
            start = {"pair": pair, "kept_back": pair in self.kept_back}
            left = self.left_out.get(pair)
            for arm in ("source_only", "oracle"):
                if report[arm]:
                    cost = ("dice", "dice_sd", "seconds", "peak_memory_mb")
                    yield {**start, "method": arm, **{name: report[arm][name] for name in cost}}
            for method, score in self.scores[pair].items():
                values = score.as_dict()
                worst = values.pop("worst")
                yield {
                    **start,
                    "method": method,
                    **values,
                    "worst_label": worst["label"],
                    "worst_label_gap": worst["gap_recovered"],
                    "worst_label_difference": worst["difference"],
                    "negative_labels": ", ".join(score.negative_labels),
                    "chosen_on_the_others": left is not None and left.chosen == method,
                }
            for method, why in report["failures"].items():
                yield {**start, "method": method, "error": why}
        for pair, why in self.failures.items():
            yield {"pair": pair, "kept_back": pair in self.kept_back, "error": why}


def _mean(values: Sequence[float], *, of: int) -> float | None:
    """The mean where every one of so many is there."""
    return sum(values) / of if of and len(values) == of else None


def _off(errors: Mapping[str, float]) -> str:
    worst, error = max(errors.items(), key=lambda item: item[1])
    return f"{fmean(errors.values()):.3f} off on average, and {error:.3f} on the worst pair, {worst}"


def _or_nothing(value: float | None) -> float:
    return -math.inf if value is None else value


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")
