"""What one method reached on one pair of domains, and over several."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from monai_transfer.evaluation.gap import CHANCE


class WorstLabel(NamedTuple):
    """The label on which a method does worst.

    Attributes:
        label: its name.
        gap_recovered: its share of the gap; ``None`` where its oracle is no better than source-only.
        difference: its Dice minus source-only's.
    """

    label: str
    gap_recovered: float | None
    difference: float

    @property
    def rank(self) -> tuple[float, float]:
        """Lower is worse: the share, and among labels without a gap those that fell before all others."""
        share = self.gap_recovered
        if share is None:
            share = -math.inf if self.difference < -CHANCE else math.inf
        return share, self.difference


@dataclass(frozen=True)
class PairScore:
    """One method on one pair, as means over the seeds.

    Attributes:
        dice: mean foreground Dice, and its standard deviation between seeds.
        gap_recovered: mean share of the gap, and its standard deviation; ``None`` where there is no gap or no oracle.
        worst: the label on which it does worst.
        negative_labels: labels whose Dice is more than 0.005 below source-only's.
        seconds: mean wall time of one training.
        peak_memory_mb: its greatest memory.
    """

    dice: float | None
    dice_sd: float | None
    gap_recovered: float | None
    gap_recovered_sd: float | None
    worst: WorstLabel
    negative_labels: tuple[str, ...]
    seconds: float
    peak_memory_mb: float

    @classmethod
    def of(cls, figures: Mapping[str, Any], source_only: Mapping[str, Any]) -> Self:
        """Of a method's and source-only's figures in :meth:`~monai_transfer.evaluation.Scoreboard.as_report`."""
        labels = [
            WorstLabel(label, one["gap_recovered"], _difference(one, source_only["per_label"][label]))
            for label, one in figures["per_label"].items()
        ]
        names = ("dice", "dice_sd", "gap_recovered", "gap_recovered_sd", "seconds", "peak_memory_mb")
        return cls(
            **{name: figures[name] for name in names},
            worst=min(labels, key=lambda label: label.rank),
            negative_labels=tuple(figures["negative_labels"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {**asdict(self), "worst": self.worst._asdict(), "negative_labels": list(self.negative_labels)}


@dataclass(frozen=True)
class Summary:
    """One method over several pairs; pairs without a gap count in the Dice alone.

    Attributes:
        dice: mean over the pairs; ``None`` where the method is missing from one, for a mean over other pairs than the
            others' would mislead.
        gap_recovered: the same of the shares of the gap.
        worst_pair: the pair with the lowest share.
        worst_label: the worst label of any pair, and its pair.
        negative_labels: pair -> labels below source-only, of the pairs that have some.
    """

    dice: float | None
    gap_recovered: float | None
    worst_pair: tuple[str, float] | None
    worst_label: tuple[str, WorstLabel] | None
    negative_labels: dict[str, tuple[str, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        pair, label = self.worst_pair, self.worst_label
        return {
            **asdict(self),
            "worst_pair": {"pair": pair[0], "gap_recovered": pair[1]} if pair else None,
            "worst_label": {"pair": label[0], **label[1]._asdict()} if label else None,
        }


def _difference(ours: Mapping[str, Any], floor: Mapping[str, Any]) -> float:
    """Of the Dice; 0 for a label that no test case shows."""
    return 0.0 if ours["dice"] is None or floor["dice"] is None else float(ours["dice"] - floor["dice"])
