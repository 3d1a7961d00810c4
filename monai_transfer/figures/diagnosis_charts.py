"""Charts of a diagnosis: ROC and precision-recall curves, reliability, confusion."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_transfer.evaluation.calibration import reliability
from monai_transfer.evaluation.ranking import precision_recall_curve, roc_curve
from monai_transfer.figures.style import INK, LABEL_COLOURS, QUIET, RULE, bare_axes, new_figure

_MOST_CURVES = 8
"""More curves cannot be told apart."""


def diagnosis_curves(
    probabilities: NDArray[np.float64], targets: NDArray[np.float64], class_names: Sequence[str], *, exclusive: bool
) -> Figure:
    """ROC curves, precision-recall curves and the reliability diagram side by side.

    Args:
        probabilities: ``(n, classes)``.
        targets: ``(n, classes)`` in 0, 1 and NaN.
        class_names: the classes; of two that exclude each other only the second is drawn.
        exclusive: whether the classes exclude each other.
    """
    figure = new_figure(10.5, 3.6)
    roc, recall, belief = figure.subplots(1, 3)
    drawn = [1] if exclusive and len(class_names) == 2 else list(range(len(class_names)))[:_MOST_CURVES]
    roc.plot([0, 1], [0, 1], color=RULE, lw=1)
    for place, number in enumerate(drawn):
        known = ~np.isnan(targets[:, number])
        truth, scores = targets[known, number] == 1, probabilities[known, number]
        if truth.all() or not truth.any():
            continue
        style: dict[str, Any] = {"color": LABEL_COLOURS[place % len(LABEL_COLOURS)], "lw": 1.8}
        false, true, _ = roc_curve(scores, truth)
        roc.plot(false, true, label=class_names[number], **style)
        precision, found, _ = precision_recall_curve(scores, truth)
        recall.plot(found, precision, label=class_names[number], **style)
    _square(roc, "false-positive rate", "sensitivity", "ROC")
    _square(recall, "recall", "precision", "precision and recall")
    roc.legend(fontsize=8, frameon=False, loc="lower right")
    _draw_reliability(belief, probabilities, targets, exclusive=exclusive)
    return figure


def confusion_figure(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """The confusion matrix of classes that exclude each other, truth downwards.

    Args:
        confusion: ``(classes, classes)``, examinations by true and predicted class.
        class_names: the classes.
    """
    count = len(class_names)
    figure = new_figure(1.8 + 0.75 * count, 1.3 + 0.55 * count)
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(count):
        for column in range(count):
            colour = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=10)
    axes.set(xticks=range(count), yticks=range(count), xlabel="said", ylabel="true")
    axes.set_xticklabels(class_names)
    axes.set_yticklabels(class_names)
    bare_axes(axes)
    return figure


def _draw_reliability(
    axes: Axes, probabilities: NDArray[np.float64], targets: NDArray[np.float64], *, exclusive: bool
) -> None:
    axes.plot([0, 1], [0, 1], color=RULE, lw=1)
    if exclusive and probabilities.shape[1] > 2:
        best = probabilities.argmax(1)
        sure, right = probabilities.max(1), targets[np.arange(len(targets)), best]
    elif exclusive:
        sure, right = probabilities[:, 1], targets[:, 1]
    else:
        known = ~np.isnan(targets)
        sure, right = probabilities[known], targets[known]
    confidence, share, counts = reliability(sure, right)
    axes.plot(confidence, share, color=LABEL_COLOURS[0], lw=1.2)
    axes.scatter(confidence, share, s=12 + 160 * counts / counts.max(), color=LABEL_COLOURS[0], zorder=3)
    _square(axes, "said probability", "share that was true", "reliability")


def _square(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10, color=QUIET)
    axes.set_aspect("equal")
    bare_axes(axes)
