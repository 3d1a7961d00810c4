"""The HTML reports: complete, self-contained, escaped."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from monai_transfer.evaluation import AdaptationSummary, LabelScore, ScoreTable
from monai_transfer.figures.report import write_adaptation_report, write_evaluation_report
from monai_transfer.figures.slices import OverlayCase
from tests.evaluation.conftest import AFFINE, two_boxes

EVIL = '<script>alert("x")</script>'


def table(dice: float, *, label: str = "liver", missed: int = 0) -> ScoreTable:
    return ScoreTable(
        tuple(
            LabelScore(
                case=case, label=label, dice=dice + 0.01 * i, iou=dice / 2, hd95_mm=3.25, assd_mm=1.5, nsd=0.5,
                precision=0.5, recall=0.5, volume_ml_predicted=1, volume_ml_true=1,
            )
            if i >= missed
            else LabelScore(case=case, label=label, dice=0.0, iou=0.0, volume_ml_predicted=0, volume_ml_true=1)
            for i, case in enumerate(("s1", "s2", "s3"))
        )
    )  # fmt: skip


def overlay(name: str = "s3") -> OverlayCase:
    return OverlayCase(
        name=name, image=two_boxes() * 90.0, affine=AFFINE, label_names={1: "liver"}, truth=two_boxes(),
        predictions={"adapted": two_boxes(1)},
    )  # fmt: skip


HISTORY = {"adapted": [{"step": 0, "loss": 1.0}, {"step": 5, "loss": 0.4}]}


class _Page(HTMLParser):
    """Collects the tags with their attributes and checks that they nest."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> str:
    summary = AdaptationSummary(
        table(0.1, missed=2), table(0.7), table(0.85), seeds=(0, 1), methods={"dann": table(0.05)},
        hardware={"processor": "Fast One"}, versions={"torch": "2.13.0"},
    )  # fmt: skip
    write_adaptation_report(
        tmp_path / "report.html",
        summary,
        overlays=[overlay("s3"), overlay("s1")],
        curves=HISTORY,
        run={"method": "mean teacher", "configuration": {"learning_rate": 0.001, "patch": [96, 96, 96], "amp": False}},
        title="CT → MR",
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_headline_comes_first(page: str) -> None:
    heading = re.search(r"<h1>(.*?)</h1>", page)
    assert heading is not None
    assert heading[1].startswith("Adaptation recovered")
    assert page.index("<h1>") < page.index("<table")


def test_scores_of_every_arm_and_metric(page: str) -> None:
    for text in ("source-only", "adapted", "oracle", "Dice", "IoU", "HD95 (mm)", "ASSD (mm)", "gap recovered"):
        assert text in page
    assert "2 of 3 left out" in page
    assert "± 0.01" in page


def test_what_was_run(page: str) -> None:
    for text in ("mean teacher", "learning rate", "0.001", "96, 96, 96", "Fast One", "2.13.0", "0, 1", "dann"):
        assert text in page


def test_cases_are_called_best_and_worst(page: str) -> None:
    assert re.search(r"s3</b> best case", page)
    assert re.search(r"s1</b> worst case", page)


def test_warnings_are_shown(page: str) -> None:
    assert "Scored on 3 target test subjects only" in page


def test_needs_no_other_file_and_no_network(page: str) -> None:
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page
    parsed = _Page(page)
    sources = [attributes["src"] for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 4
    assert all(source and source.startswith("data:image/") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}


def test_everything_a_user_wrote_is_escaped(tmp_path: Path) -> None:
    evil = ScoreTable(
        tuple(LabelScore(case=EVIL, label=EVIL, dice=d, volume_ml_predicted=1, volume_ml_true=1) for d in (0.1, 0.2)),
        without_prediction=(EVIL,),
    )
    summary = AdaptationSummary(evil, evil, evil, methods={EVIL: evil}, hardware={EVIL: EVIL}, versions={EVIL: EVIL})
    run = {EVIL: EVIL, "data": {EVIL: [EVIL]}}
    write_adaptation_report(tmp_path / "a.html", summary, overlays=[overlay(EVIL)], run=run, title=EVIL)
    write_evaluation_report(tmp_path / "e.html", evil, overlays=[overlay(EVIL)], run=run, title=EVIL)
    for name in ("a.html", "e.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        _Page(text)


def test_a_run_that_made_things_worse_says_so_first(tmp_path: Path) -> None:
    write_adaptation_report(tmp_path / "r.html", AdaptationSummary(table(0.5), table(0.3), table(0.8)))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>Adaptation made things worse" in text
    assert "Adaptation made things worse on liver (Dice 0.51 → 0.31)." in text
    assert "−67 %" in text


def test_without_target_labels_there_are_pictures_only(tmp_path: Path) -> None:
    write_adaptation_report(tmp_path / "r.html", AdaptationSummary(None, None), overlays=[overlay()], curves=HISTORY)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "nothing could be scored" in text
    assert "<table" not in text
    assert text.count("<img") == 2


def test_without_an_oracle_there_is_no_gap(tmp_path: Path) -> None:
    write_adaptation_report(tmp_path / "r.html", AdaptationSummary(table(0.5), table(0.7)))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "the share of the gap is unknown" in text
    assert 'scope="col">gap recovered' not in text


def test_evaluation_report(tmp_path: Path) -> None:
    scores = table(0.8, label="left_kidney", missed=1)
    write_evaluation_report(tmp_path / "e.html", scores, overlays=[overlay()], run={"bundle": "b"})
    text = (tmp_path / "e.html").read_text(encoding="utf-8")
    _Page(text)
    assert "<h1>Mean Dice 0.54 ± 0.47 over 1 label in 3 cases.</h1>" in text
    assert "Missed altogether: left kidney in 1 of 3 cases." in text
    for text_of in ("NSD", "Precision", "Recall", "1 of 3 left out"):
        assert text_of in text
    assert "http" not in text


def test_no_half_file_is_left(tmp_path: Path) -> None:
    write_evaluation_report(tmp_path / "new" / "e.html", table(0.8))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["e.html"]
