"""Means, spread and shares of the gap, by hand."""

import csv
import json
from pathlib import Path

import pytest

from monai_transfer.evaluation import LabelScore, Scoreboard, ScoredRun, ScoreTable
from monai_transfer.figures.scoreboard_report import write_scoreboard_report


def _run(liver: float, spleen: float, *, seconds: float = 10.0) -> ScoredRun:
    rows = tuple(
        LabelScore(case="a", label=label, dice=dice, iou=dice / 2, volume_ml_predicted=1.0, volume_ml_true=1.0)
        for label, dice in (("liver", liver), ("spleen", spleen))
    )
    return ScoredRun(ScoreTable(rows), seconds, 100.0)


@pytest.fixture
def board() -> Scoreboard:
    return Scoreboard(
        source_only={0: _run(0.2, 0.4), 1: _run(0.2, 0.2)},
        oracle={0: _run(0.8, 0.8), 1: _run(1.0, 1.0)},
        methods={
            "Harm": {0: _run(0.1, 0.4), 1: _run(0.2, 0.1)},
            "Default": {0: _run(0.5, 0.6, seconds=20), 1: _run(0.9, 0.9, seconds=40)},
        },
        failures={"AdaBN": "needs batch normalisation."},
    )


def test_shares_are_taken_between_runs_of_one_seed(board: Scoreboard) -> None:
    assert board.gaps("Default") == {0: pytest.approx(0.25 / 0.5), 1: pytest.approx(0.7 / 0.8)}
    assert board.gaps("Default", "liver") == {0: pytest.approx(0.5), 1: pytest.approx(0.7 / 0.8)}


def test_the_report_has_mean_spread_cost_and_negative_labels(board: Scoreboard) -> None:
    report = board.as_report()
    default, harm = report["methods"]["Default"], report["methods"]["Harm"]
    assert report["adapted"] == default
    assert report["gap_recovered"] == default["gap_recovered"] == pytest.approx((0.5 + 0.875) / 2)
    assert default["gap_recovered_sd"] == pytest.approx(0.375 / 2**0.5)
    assert (default["seconds"], default["peak_memory_mb"], default["negative_labels"]) == (30.0, 100.0, [])
    assert default["dice"] == pytest.approx((0.55 + 0.9) / 2)
    assert harm["negative_labels"] == ["liver", "spleen"]
    assert harm["gap_recovered"] < 0
    assert list(report["methods"]) == ["Default", "Harm"]
    assert any("Harm made things worse on liver, spleen" in warning for warning in report["warnings"])
    json.dumps(report, allow_nan=False)


def test_without_an_oracle_there_is_no_share() -> None:
    report = Scoreboard({0: _run(0.2, 0.4)}, {}, {"DANN": {0: _run(0.5, 0.6)}}).as_report()
    assert report["methods"]["DANN"]["gap_recovered"] is None
    assert report["oracle"] is report["adapted"] is None


def test_the_files_say_the_same(board: Scoreboard, tmp_path: Path) -> None:
    board.write_csv(tmp_path / "board.csv")
    lines = list(csv.DictReader((tmp_path / "board.csv").open()))
    line = next(row for row in lines if (row["method"], row["seed"], row["label"]) == ("Default", "1", "mean"))
    assert (float(line["dice"]), float(line["gap_recovered"])) == (0.9, 0.875)
    assert len(lines) == 4 * 2 * 3
    write_scoreboard_report(tmp_path / "board.html", board, run={"network": "unet <b>"})
    page = (tmp_path / "board.html").read_text()
    assert "http" not in page
    assert "unet &lt;b&gt;" in page
    assert "69 %" in page


def test_a_table_survives_its_file(board: Scoreboard) -> None:
    table = board.oracle[0].table
    assert ScoreTable.from_dict(json.loads(json.dumps(table.as_dict()))).as_dict() == table.as_dict()
