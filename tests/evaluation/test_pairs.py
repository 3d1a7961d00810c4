"""The table of a bench, by hand."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from monai_transfer.evaluation import LabelScore, Scoreboard, ScoredRun, ScoreTable
from monai_transfer.evaluation.pairs import PairTable
from monai_transfer.figures.pairs_report import bench_columns, bench_rows, write_pairs_report


def _run(liver: float, spleen: float, *, seconds: float = 10.0) -> ScoredRun:
    rows = tuple(
        LabelScore(case="a", label=label, dice=dice, iou=dice / 2, volume_ml_predicted=1.0, volume_ml_true=1.0)
        for label, dice in (("liver", liver), ("spleen", spleen))
    )
    return ScoredRun(ScoreTable(rows), seconds, 100.0)


def _board(**methods: tuple[float, float]) -> Scoreboard:
    """Source-only has 0.2 and 0.4, the oracle 1.0 and 0.8: a gap of 0.6 from 0.3 to 0.9."""
    runs = {name: {0: _run(*dice)} for name, dice in methods.items()}
    return Scoreboard({0: _run(0.2, 0.4, seconds=30)}, {0: _run(1.0, 0.8)}, runs)


@pytest.fixture
def table() -> PairTable:
    """Shares: First 1, 0.5, 0 (mean 0.5); Second 0.5, 0.75, 0.75 (mean 2/3); on the pair that is kept back 0.5, 1."""
    return PairTable(
        {
            "one": _board(First=(1.0, 0.8), Second=(0.6, 0.6)),
            "two": _board(First=(0.6, 0.6), Second=(0.8, 0.7)),
            "three": _board(First=(0.4, 0.2), Second=(0.9, 0.6)),
            "held": _board(First=(0.6, 0.6), Second=(1.0, 0.8)),
        },
        failures={"broken": "x is not a folder."},
        kept_back=("held",),
    )


def test_means_run_over_the_pairs_that_are_not_kept_back(table: PairTable) -> None:
    assert table.methods == ("Second", "First")
    first = table.summary("First", table.development)
    assert first.gap_recovered == pytest.approx(0.5)
    assert first.dice == pytest.approx((0.9 + 0.6 + 0.3) / 3)
    assert first.worst_pair == ("three", pytest.approx(0.0))
    assert table.summary("Second", table.held).gap_recovered == pytest.approx(1.0)


def test_the_worst_label_is_that_of_the_lowest_share(table: PairTable) -> None:
    first = table.summary("First", table.development)
    assert first.worst_label is not None
    pair, worst = first.worst_label
    assert (pair, worst.label) == ("three", "spleen")
    assert (worst.gap_recovered, worst.difference) == (pytest.approx(-0.5), pytest.approx(-0.2))
    assert first.negative_labels == {"three": ("spleen",)}
    assert "First made things worse on spleen (three)." in table.warnings


def test_a_label_without_a_gap_is_the_worst_only_where_it_fell() -> None:
    def worst(spleen: float) -> str:
        board = Scoreboard({0: _run(0.2, 0.8)}, {0: _run(1.0, 0.8)}, {"M": {0: _run(0.4, spleen)}})
        return PairTable({"p": board}).scores["p"]["M"].worst.label

    assert (worst(0.8), worst(0.5)) == ("liver", "spleen")


def test_the_choice_for_a_pair_is_made_on_the_others(table: PairTable) -> None:
    """Without one: First 0.25, Second 0.75. Without two: 0.5, 0.625. Without three: First 0.75, Second 0.625."""
    chosen = {pair: (left.chosen, left.gap_recovered) for pair, left in table.left_out.items()}
    assert chosen == {
        "one": ("Second", pytest.approx(0.5)),
        "two": ("Second", pytest.approx(0.75)),
        "three": ("First", pytest.approx(0.0, abs=1e-9)),
        "held": ("Second", pytest.approx(1.0)),
    }
    assert table.left_out_mean(table.development) == pytest.approx(1.25 / 3)
    assert "67 % of the gap on average over 3 pair(s), 50 % on the worst, one" in table.headline
    assert "recovers 42 %" in table.headline


def test_a_pair_that_is_kept_back_chooses_nothing() -> None:
    """On the two pairs alone First is better, with the kept-back pair Second would be."""
    boards = {
        "one": _board(First=(0.8, 0.7), Second=(0.6, 0.6)),
        "two": _board(First=(0.8, 0.7), Second=(0.6, 0.6)),
        "held": _board(First=(0.2, 0.4), Second=(1.0, 0.8)),
    }
    assert {left.chosen for left in PairTable(boards, {}, ("held",)).left_out.values()} == {"First"}
    assert PairTable(boards).left_out["one"].chosen == "Second"


def test_a_method_that_is_missing_from_a_pair_has_no_mean_and_is_not_chosen(table: PairTable) -> None:
    boards = {**table.boards, "two": _board(First=(0.6, 0.6))}
    gaps = PairTable(boards, {}, ("held",))
    second = gaps.summary("Second", gaps.development)
    assert (second.dice, second.gap_recovered) == (None, None)
    assert second.worst_pair == ("one", pytest.approx(0.5))
    assert gaps.left_out["one"].chosen == "First"
    assert gaps.left_out["two"].chosen == "Second"  # it is there on both others, but could not be trained here
    assert gaps.left_out["two"].gap_recovered is None
    assert gaps.left_out_mean(gaps.development) is None


def test_a_pair_without_an_oracle_counts_in_the_dice_alone(table: PairTable) -> None:
    board = table.boards["three"]
    boards = {**table.boards, "three": Scoreboard(board.source_only, {}, board.methods)}
    without = PairTable(boards, {}, ("held",))
    first = without.summary("First", without.development)
    assert first.gap_recovered == pytest.approx(0.75)
    assert first.dice == pytest.approx(0.6)
    assert set(without.left_out) == {"one", "two", "held"}


def test_files_and_page_say_the_same(table: PairTable, tmp_path: Path) -> None:
    table.write_json(tmp_path / "t.json")
    report = json.loads((tmp_path / "t.json").read_text())
    assert report["methods"]["Second"]["gap_recovered"] == pytest.approx(2 / 3)
    assert report["methods"]["Second"]["kept_back"]["gap_recovered"] == pytest.approx(1.0)
    assert report["methods"]["First"]["worst_label"]["label"] == "spleen"
    assert report["pairs"]["three"]["methods"]["Second"]["worst"]["label"] == "spleen"
    assert report["pairs"]["one"]["seconds"] == pytest.approx(30 + 3 * 10)
    assert report["pairs"]["broken"] == {"kept_back": False, "error": "x is not a folder."}
    assert report["leave_one_pair_out"]["pairs"]["three"]["chosen"] == "First"
    json.dumps(report, allow_nan=False)
    table.write_csv(tmp_path / "t.csv")
    lines = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(lines) == 4 * 4 + 1
    line = next(row for row in lines if (row["pair"], row["method"]) == ("three", "First"))
    assert (line["negative_labels"], line["chosen_on_the_others"], float(line["worst_label_gap"])) == (
        "spleen",
        "True",
        -0.5,
    )
    assert lines[-1]["error"] == "x is not a folder."
    write_pairs_report(tmp_path / "t.html", table)
    page = (tmp_path / "t.html").read_text()
    assert "67 %" in page
    assert "below source-only: spleen" in page
    assert "http" not in page


def test_every_row_has_a_cell_for_every_column(table: PairTable) -> None:
    rows = bench_rows(table)
    assert {len(row.cells) for row in rows} == {len(bench_columns(table))}
    assert [row.name for row in rows] == [
        *("one", "two", "three", "mean", "worst pair", "worst label"),
        *("held (kept back)", "mean (kept back)", "worst pair (kept back)", "worst label (kept back)", "broken"),
    ]


def test_nothing_scored_is_said(tmp_path: Path) -> None:
    empty = PairTable({}, {"a": "no."})
    write_pairs_report(tmp_path / "t.html", empty)
    assert empty.headline == "No pair could be scored."
    assert "a could not be scored: no." in (tmp_path / "t.html").read_text()
    json.dumps(empty.as_report(), allow_nan=False)


def test_what_bundles_estimate_of_themselves_is_compared_with_their_dice() -> None:
    board = _board(First=(0.9, 0.6))
    (run,) = board.methods["First"].values()
    estimated = replace(run, estimated={"liver": 0.8, "spleen": 0.7})
    table = PairTable({"one": replace(board, methods={"First": {0: estimated}}), "two": board})
    assert table.as_report()["predicted_dice"]["by_the_bundle"] == {"one": pytest.approx(0.1)}
    assert table.sentences == [
        "Estimated by the adapted bundle itself, the mean Dice of a label is 0.100 off on average, and 0.100 on the "
        "worst pair, one."
    ]
