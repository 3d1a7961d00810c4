"""Charts draw what they were given."""

import math

import pytest

from monai_transfer.evaluation import LabelScore, ScoreTable
from monai_transfer.figures.charts import label_bars, learning_curves
from monai_transfer.figures.style import ARM_COLOURS


def table(dice: float) -> ScoreTable:
    return ScoreTable(
        tuple(
            LabelScore(case=c, label=label, dice=d, volume_ml_predicted=1, volume_ml_true=1)
            for label, d in (("liver", dice), ("left_kidney", dice / 2))
            for c in "ab"
        )
    )


def test_a_bar_per_label_and_arm_and_a_mark_for_the_oracle() -> None:
    axes = label_bars({"source-only": table(0.2), "adapted": table(0.6), "oracle": table(0.8)}).axes[0]
    assert sorted(bar.get_width() for bar in axes.patches) == pytest.approx([0.1, 0.2, 0.3, 0.6])
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_color() == ARM_COLOURS["oracle"]]
    assert [x for x in marks if x in (0.8, 0.4)] == [0.8, 0.4]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["liver", "left kidney"]


def test_an_oracle_alone_is_drawn_as_bars() -> None:
    assert len(label_bars({"oracle": table(0.8)}).axes[0].patches) == 2


def test_a_panel_per_value_and_a_line_per_arm() -> None:
    history = {
        "source-only": [{"step": 0, "loss": 1.0}, {"step": 10, "loss": 0.5, "validation_dice": 0.3}],
        "adapted": [{"step": 0, "loss": 1.1}, {"step": 10, "loss": math.nan, "consistency": 0.2}],
    }
    figure = learning_curves(history)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["loss", "validation dice", "consistency"]
    assert [list(line.get_xdata()) for line in panels["loss"].lines] == [[0, 10], [0]]
    assert len(panels["consistency"].lines) == 1


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        learning_curves({"adapted": []})
