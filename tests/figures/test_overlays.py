"""Pictures: panels, outlines, and the choice of cases."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from monai_transfer.evaluation import LabelScore, ScoreTable
from monai_transfer.figures.overlays import best_median_worst, overlay_figure, overview_picture
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.figures.style import label_colours
from tests.evaluation.conftest import AFFINE, two_boxes

NAMES = {0: "background", 1: "liver", 2: "left_kidney"}


def overlay_case(**predictions: int) -> OverlayCase:
    return OverlayCase(
        name="a",
        image=two_boxes() * 100.0,
        affine=AFFINE,
        label_names=NAMES,
        truth=two_boxes(),
        predictions={arm.replace("_", "-"): two_boxes(shift) for arm, shift in predictions.items()},
        dice={"adapted": 0.876},
    )


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def table(**dice: float) -> ScoreTable:
    return ScoreTable(
        tuple(LabelScore(case=c, label="x", dice=d, volume_ml_predicted=1, volume_ml_true=1) for c, d in dice.items())
    )


def test_a_panel_for_the_truth_and_each_arm() -> None:
    figure = overlay_figure(overlay_case(source_only=2, adapted=1, oracle=0))
    assert titles(figure) == ["Truth", "Source-only", "Adapted", "Oracle"]
    assert figure.axes[2].get_title(loc="right") == "Dice 0.88"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["liver", "left kidney"]


def test_outlines_have_the_colours_of_their_labels() -> None:
    figure = overlay_figure(overlay_case(adapted=0))
    drawn = {line.get_color() for line in figure.axes[0].lines}
    assert drawn == set(label_colours(NAMES).values())


def test_outline_follows_the_mask() -> None:
    axes = overlay_figure(overlay_case()).axes[0]
    liver = next(line for line in axes.lines if line.get_color() == label_colours(NAMES)[1])
    # the box spans 8 × 8 voxels: its outline runs half a voxel outside their centres
    assert np.ptp(liver.get_xdata()) == pytest.approx(8)
    assert np.ptp(liver.get_ydata()) == pytest.approx(8)


def test_overview_picture_tells_the_story_in_four_panels() -> None:
    figure = overview_picture(overlay_case(), overlay_case(source_only=3, adapted=1), target_title="MR")
    assert titles(figure) == ["Source, with labels", "MR, source-only", "MR, adapted", "MR, truth"]


def test_best_median_worst() -> None:
    assert best_median_worst(table(a=0.5, b=0.9, c=0.1, d=0.6, e=0.7)) == {"best": "b", "median": "d", "worst": "c"}
    assert best_median_worst(table(a=0.5, b=0.9)) == {"best": "b", "worst": "a"}
    assert best_median_worst(table(a=0.5)) == {"best": "a"}
    assert best_median_worst(table(a=float("nan"))) == {}
