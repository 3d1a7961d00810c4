"""Means, counts and files of a score table."""

import csv
import json
import math
from pathlib import Path

import pytest

from monai_transfer.evaluation import LabelScore, ScoreTable


def row(
    case: str, label: str, dice: float, *, predicted: float = 1.0, true: float = 1.0, **figures: float
) -> LabelScore:
    return LabelScore(case=case, label=label, dice=dice, volume_ml_predicted=predicted, volume_ml_true=true, **figures)


@pytest.fixture
def table() -> ScoreTable:
    return ScoreTable(
        (
            row("a", "liver", 0.8, hd95_mm=4.0),
            row("a", "spleen", 0.0, predicted=0),
            row("b", "liver", 0.6, hd95_mm=8.0),
            row("b", "spleen", math.nan, predicted=0, true=0),
            row("c", "liver", 0.7, hd95_mm=6.0),
            row("c", "spleen", 0.5, hd95_mm=10.0),
        )
    )


def test_means_deviations_and_counts(table: ScoreTable) -> None:
    liver, spleen = table.summary("liver"), table.summary("spleen")
    assert liver.mean["dice"] == pytest.approx(0.7)
    assert liver.sd["dice"] == pytest.approx(0.1)
    assert spleen.mean["dice"] == pytest.approx(0.25)
    assert spleen.mean["hd95_mm"] == 10
    assert math.isnan(spleen.sd["hd95_mm"])
    assert (spleen.cases, spleen.missed, spleen.absent, spleen.invented) == (3, 1, 1, 0)


def test_every_label_weighs_the_same(table: ScoreTable) -> None:
    assert table.mean("dice") == pytest.approx((0.7 + 0.25) / 2)
    assert table.mean("hd95_mm") == pytest.approx((6 + 10) / 2)
    assert table.case_mean("b") == pytest.approx(0.6)


def test_csv_has_empty_fields_where_undefined(table: ScoreTable, tmp_path: Path) -> None:
    table.write_csv(tmp_path / "new" / "scores.csv")
    lines = list(csv.DictReader((tmp_path / "new" / "scores.csv").open()))
    assert len(lines) == 6
    assert lines[1]["outcome"] == "missed"
    assert lines[1]["hd95_mm"] == ""
    assert lines[3]["dice"] == ""
    assert float(lines[0]["dice"]) == 0.8


def test_json_is_strict(table: ScoreTable, tmp_path: Path) -> None:
    table.write_json(tmp_path / "scores.json")
    text = (tmp_path / "scores.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    content = json.loads(text)
    assert content["dice"] == pytest.approx(0.475)
    assert content["per_label"]["spleen"]["missed"] == 1
    assert content["rows"][3]["dice"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
