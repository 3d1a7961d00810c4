"""Charts, overlays and the one-file HTML reports."""

from monai_transfer.figures.charts import History, label_bars, learning_curves
from monai_transfer.figures.overlays import best_median_worst, overlay_figure, overview_picture
from monai_transfer.figures.report import write_adaptation_report, write_evaluation_report
from monai_transfer.figures.scoreboard_report import method_bars, write_scoreboard_report
from monai_transfer.figures.slices import OverlayCase
from monai_transfer.figures.style import save_figure

__all__ = [
    "History",
    "OverlayCase",
    "best_median_worst",
    "label_bars",
    "learning_curves",
    "method_bars",
    "overlay_figure",
    "overview_picture",
    "save_figure",
    "write_adaptation_report",
    "write_evaluation_report",
    "write_scoreboard_report",
]
