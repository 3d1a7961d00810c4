"""The share of the gap recovered, and the sentences about it."""

import json
import math
from pathlib import Path

import pytest

from monai_transfer.evaluation import AdaptationSummary, LabelScore, ScoreTable, gap_recovered


def table(**dice: float) -> ScoreTable:
    return ScoreTable(
        tuple(
            LabelScore(case=case, label=label, dice=value, iou=value / 2, volume_ml_predicted=1, volume_ml_true=1)
            for case in ("a", "b", "c", "d", "e")
            for label, value in dice.items()
        )
    )


def test_hand_computed_shares() -> None:
    assert gap_recovered(0.1, 0.7, 0.85) == pytest.approx(0.8)
    assert gap_recovered(0.2, 0.1, 0.7) == pytest.approx(-0.2)
    assert gap_recovered(0.2, 0.9, 0.7) == pytest.approx(1.4)


@pytest.mark.parametrize("oracle", [0.3, 0.5, 0.51, math.nan])
def test_no_gap_no_share(oracle: float) -> None:
    assert gap_recovered(0.5, 0.9, oracle) is None


def test_headline_of_a_success() -> None:
    summary = AdaptationSummary(table(liver=0.1), table(liver=0.7), table(liver=0.85))
    assert summary.gap_recovered == pytest.approx(0.8)
    assert summary.headline == (
        "Adaptation recovered 80 % of the gap: mean Dice went from 0.10 (source-only) to 0.70 on "
        "5 target test subjects; the oracle reaches 0.85."
    )
    assert summary.warnings == []
    assert "Mean Dice rose in 5 of 5 test subjects." in summary.sentences


def test_a_run_that_made_things_worse_says_so() -> None:
    summary = AdaptationSummary(table(liver=0.5), table(liver=0.4), table(liver=0.85))
    assert summary.headline.startswith("Adaptation made things worse: mean Dice fell from 0.50")


def test_a_label_made_worse_is_named() -> None:
    summary = AdaptationSummary(
        table(liver=0.1, spleen=0.6), table(liver=0.7, spleen=0.5), table(liver=0.8, spleen=0.8)
    )
    assert summary.gap_per_label == {"liver": pytest.approx(6 / 7), "spleen": pytest.approx(-0.5)}
    assert summary.warnings == ["Adaptation made things worse on spleen (Dice 0.60 → 0.50)."]


def test_several_labels_made_worse_are_one_sentence() -> None:
    before, after = table(liver=0.7, left_kidney=0.7, aorta=0.7), table(liver=0.6, left_kidney=0.5, aorta=0.4)
    assert AdaptationSummary(before, after).warnings == [
        "Adaptation made things worse on liver (Dice 0.70 → 0.60), left kidney (Dice 0.70 → 0.50) "
        "and aorta (Dice 0.70 → 0.40)."
    ]


def test_a_weak_oracle_is_warned_of() -> None:
    summary = AdaptationSummary(table(liver=0.02), table(liver=0.04), table(liver=0.1))
    assert any("The oracle itself reaches a mean Dice of only 0.10" in warning for warning in summary.warnings)


def test_no_gap_to_recover() -> None:
    summary = AdaptationSummary(table(liver=0.8), table(liver=0.79), table(liver=0.8))
    assert summary.gap_recovered is None
    assert summary.headline.startswith("There was no gap to recover")


def test_without_an_oracle_the_share_is_unknown() -> None:
    summary = AdaptationSummary(table(liver=0.1), table(liver=0.7))
    assert summary.gap_recovered is None
    assert "unknown" in summary.headline


def test_without_target_labels_nothing_is_scored() -> None:
    summary = AdaptationSummary(None, None)
    assert summary.headline == "The target has no labels, so nothing could be scored."
    assert summary.as_report()["source_only"] is None


def test_missed_labels_and_few_subjects_are_warned_of() -> None:
    rows = (
        LabelScore(case="a", label="liver", dice=0.0, volume_ml_predicted=0, volume_ml_true=1),
        LabelScore(case="b", label="liver", dice=0.9, volume_ml_predicted=1, volume_ml_true=1),
    )
    warnings = AdaptationSummary(ScoreTable(rows), ScoreTable(rows)).warnings
    assert "The adapted network missed altogether liver (1 of 2 subjects)." in warnings
    assert any("2 target test subjects only" in warning for warning in warnings)


def test_report_json(tmp_path: Path) -> None:
    tables = table(liver=0.1), table(liver=0.7), table(liver=0.85)
    summary = AdaptationSummary(
        *tables, seeds=(0,), methods={"mean teacher": tables[1]}, hardware={"cpu": "x"}, versions={"torch": "2"}
    )
    summary.write_json(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) >= {
        "source_only",
        "adapted",
        "oracle",
        "gap_recovered",
        "seeds",
        "methods",
        "hardware",
        "versions",
    }
    assert report["adapted"]["dice"] == pytest.approx(0.7)
    assert report["adapted"]["iou"] == pytest.approx(0.35)
    assert report["adapted"]["per_label"]["liver"]["dice"] == pytest.approx(0.7)
    assert report["gap_recovered"] == pytest.approx(0.8)
    assert report["methods"]["mean teacher"]["gap_recovered"] == pytest.approx(0.8)
    assert report["seeds"] == [0]
