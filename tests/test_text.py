"""Names that may be anything, through everything that shows or writes a name."""

import csv
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.table import Table

from monai_transfer.cli import console
from monai_transfer.evaluation import AdaptationSummary, LabelScore, ScoreTable
from monai_transfer.evaluation.label_evidence import LabelEvidence
from monai_transfer.evaluation.pairs import PairTable
from monai_transfer.evaluation.predicted_dice import write_known_labels
from monai_transfer.evaluation.scoreboard import Scoreboard, ScoredRun
from monai_transfer.figures.charts import label_bars, learning_curves
from monai_transfer.figures.overlays import overlay_figure
from monai_transfer.figures.pairs_report import write_pairs_report
from monai_transfer.figures.report import write_adaptation_report, write_evaluation_report
from monai_transfer.figures.scoreboard_report import write_scoreboard_report
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.figures.style import png_bytes, svg_bytes
from monai_transfer.inference.segmentation import write_sidecars
from monai_transfer.text import csv_cell, markdown, one_line
from monai_transfer.workflows.cards import write_model_card

HOSTILE = (
    "[/red]",
    "[bold]liver[/bold]",
    ":skull: liver",
    r"$\frac$",
    "$x$ and $",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "＝1+1",
    '<script>alert("x")</script>',
    '" onload="alert(1)',
    "</style><img src=x>",
    "{{ 7 * 7 }}{% raw %}",
    "liver\nspleen",
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://x\x07link",
    "nul\x00byte",
    "back\bspace",
    "right\u202eot-left",
    "half\udc80",
    "a|b | `c`",
    "![x](http://y)",
    'quote " quote',
    "100 %s %d {0}",
    "日本語 léber",
    " " * 3,
)
FORMULA = re.compile(r"^\s*[=+\-@＝]")


def _table(labels: tuple[str, ...] = HOSTILE, case: str = HOSTILE[0], dice: float = 0.5) -> ScoreTable:
    figures: dict[str, Any] = dict.fromkeys(("dice", "iou", "nsd", "precision", "recall"), dice)
    rows = [
        LabelScore(case=one, label=label, hd95_mm=1.0, assd_mm=1.0, volume_ml_predicted=1, volume_ml_true=1, **figures)
        for label in labels
        for one in (case, "plain")
    ]
    return ScoreTable(tuple(rows))


def _overlay(name: str) -> OverlayCase:
    volume = np.zeros((8, 8, 4), np.uint8)
    volume[2:6, 2:6] = 1
    return OverlayCase(
        name=name,
        image=volume * 9.0,
        affine=np.eye(4),
        label_names={1: name},
        truth=volume,
        predictions={name: volume},
        dice={name: 0.5},
    )


class _Page(HTMLParser):
    """Collects the tags and the visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def _assert_harmless_page(page: str) -> None:
    parsed = _Page(page)
    assert "script" not in parsed.tags
    assert parsed.handlers == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
    assert '<script>alert("x")</script>' in unescape(page)
    assert "{{ 7 * 7 }}" in page


def test_pages_show_every_name_as_it_is(tmp_path: Path) -> None:
    overlays = [_overlay(name) for name in HOSTILE[:3]]
    run = {name: {"data": name, "list": [name]} for name in HOSTILE}
    table = _table()
    write_evaluation_report(tmp_path / "a.html", table, overlays=overlays, run=run, title=HOSTILE[11])
    summary = AdaptationSummary(source_only=table, adapted=_table(dice=0.6), oracle=_table(dice=0.9))
    curves = {"adapted": [{"step": 0, HOSTILE[3]: 1.0}, {"step": 5, HOSTILE[3]: 0.4}]}
    write_adaptation_report(tmp_path / "b.html", summary, overlays=overlays, curves=curves, run=run)
    write_scoreboard_report(tmp_path / "c.html", _board(), overlays=overlays, run=run)
    write_pairs_report(tmp_path / "d.html", PairTable({"p": _board()}, {"q": HOSTILE[11]}), run=run)
    for page in ("a.html", "b.html", "c.html", "d.html"):
        _assert_harmless_page((tmp_path / page).read_text(encoding="utf-8"))


def _board() -> Scoreboard:
    evidence = {name: LabelEvidence(found=1.0, size=-2.0) for name in HOSTILE}
    run = {0: ScoredRun(_table(), seconds=1.0, peak_memory_mb=1.0, evidence=evidence)}
    return Scoreboard(run, run, {name: run for name in HOSTILE[:12]}, failures={HOSTILE[12]: HOSTILE[13]})


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_a_formula_for_a_figure(name: str) -> None:
    figures = (
        label_bars({name: _table((name, "liver")), "adapted": _table((name, "liver"))}),
        learning_curves({name: [{"step": 0, name: 1.0}, {"step": 1, name: 0.5}]}),
        overlay_figure(_overlay(name)),
    )
    for figure in figures:
        assert png_bytes(figure, dpi=40).startswith(b"\x89PNG")
        ElementTree.fromstring(svg_bytes(figure))


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    for name in HOSTILE:
        _table(case=name).write_csv(tmp_path / "scores.csv")
        rows = list(csv.reader((tmp_path / "scores.csv").open(encoding="utf-8", newline="")))
        assert len({len(row) for row in rows}) == 1
        assert not [cell for row in rows[1:] for cell in row[:2] if FORMULA.match(cell)]
    _board().write_csv(tmp_path / "board.csv")
    pairs = PairTable({"p": _board()}, {"q": HOSTILE[5]})
    pairs.write_csv(tmp_path / "pairs.csv")
    write_known_labels(tmp_path / "labels.csv", pairs.known_labels)
    for name in ("board.csv", "pairs.csv", "labels.csv"):
        lines = list(csv.reader((tmp_path / name).open(encoding="utf-8", newline="")))
        assert len(lines) > len(HOSTILE) / 2
        cells = [cell for line in lines for cell in line]
        assert not [cell for cell in cells if FORMULA.match(cell) and not re.fullmatch(r"-?[\d.e-]+", cell)]


def test_the_terminal_gets_every_name_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in HOSTILE:
        for speak in (console.error, console.note, console.say, console.say_section, console.tell):
            speak(f"name {name} end")
            printed = "".join(capsys.readouterr())
            assert printed.endswith(f"name {one_line(name)} end\n")
            assert printed.count("\n") == 1
        console.out.print(console.titled(name, name, style="red"))
        table = Table(name, title=name)
        table.add_row(name)
        console.out.print(table)
        printed = "".join(capsys.readouterr())
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\udc80]", printed)


def test_sidecars_have_one_line_a_label(tmp_path: Path) -> None:
    write_sidecars(dict(enumerate(("background", *HOSTILE))), tmp_path)
    files = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    for name, fields in (("labels.itksnap.txt", 8), ("labels.ctbl", 6)):
        lines = [line for line in files[name].splitlines() if not line.startswith("#")]
        assert len(lines) == len(HOSTILE) + 1
        split = re.compile(r'"[^"]*"|\S+').findall
        assert {len(split(line)) for line in lines} == {fields}
    assert len(json.loads(files["labels.json"])) == len(HOSTILE) + 1


def test_a_model_card_shows_every_name_as_it_is(tmp_path: Path) -> None:
    bundle = SimpleNamespace(root=tmp_path, change=lambda *_: None)
    plan = SimpleNamespace(label_names=dict(enumerate(("background", *HOSTILE))))
    (tmp_path / "docs").mkdir()
    scores = {name: _table(case=name) for name in HOSTILE}
    write_model_card(
        bundle,  # type: ignore[arg-type]
        title=HOSTILE[15],
        plan=plan,  # type: ignore[arg-type]
        sentences=HOSTILE,
        scores=scores,
        run=dict(zip(("data", "held cases"), HOSTILE[10:12], strict=True)),
    )
    card = (tmp_path / "docs" / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in card
    assert card.splitlines()[0] == "# liver spleen"
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_by_hand() -> None:
    assert one_line("left_kidney (日本語)") == "left_kidney (日本語)"
    assert one_line("a\u00a0b\tc\x07\u200e") == "a b c??"
    assert [csv_cell(value) for value in ("=1", "liver", -1.5, None, "  @a")] == ["'=1", "liver", -1.5, None, "'  @a"]
    assert markdown("*a* [b](c) $x$ <d>") == r"\*a\* \[b\](c) \$x\$ &lt;d&gt;"
