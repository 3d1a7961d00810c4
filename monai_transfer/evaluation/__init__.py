"""Figures that can be trusted: metrics, the gap report, label-free scores, figures, HTML."""

from monai_transfer.evaluation.charts import History, label_bars, learning_curves
from monai_transfer.evaluation.evaluation_run import Evaluation, Predictions, evaluate
from monai_transfer.evaluation.figures import save_figure
from monai_transfer.evaluation.folder import score_folder
from monai_transfer.evaluation.gap import AdaptationSummary, gap_recovered
from monai_transfer.evaluation.label_free import (
    PredictionCertainty,
    PredictionInformation,
    SoftNeighbourhoodDensity,
    TeacherStudentAgreement,
)
from monai_transfer.evaluation.machine import hardware, versions
from monai_transfer.evaluation.overlays import best_median_worst, overlay_figure, overview_picture
from monai_transfer.evaluation.report import write_adaptation_report, write_evaluation_report
from monai_transfer.evaluation.scoreboard import Scoreboard, ScoredRun
from monai_transfer.evaluation.scoreboard_report import method_bars, write_scoreboard_report
from monai_transfer.evaluation.scores import METRICS, LabelScore, score_case
from monai_transfer.evaluation.selection import (
    CheckpointChoice,
    Choice,
    LabelFreeScores,
    SourceSizes,
    choose_checkpoint,
    choose_network,
    label_free_scores,
)
from monai_transfer.evaluation.slices import OverlayCase
from monai_transfer.evaluation.surfaces import surface_distances
from monai_transfer.evaluation.table import LabelSummary, ScoreTable

__all__ = [
    "METRICS",
    "AdaptationSummary",
    "CheckpointChoice",
    "Choice",
    "Evaluation",
    "History",
    "LabelFreeScores",
    "LabelScore",
    "LabelSummary",
    "OverlayCase",
    "PredictionCertainty",
    "PredictionInformation",
    "Predictions",
    "ScoreTable",
    "Scoreboard",
    "ScoredRun",
    "SoftNeighbourhoodDensity",
    "SourceSizes",
    "TeacherStudentAgreement",
    "best_median_worst",
    "choose_checkpoint",
    "choose_network",
    "evaluate",
    "gap_recovered",
    "hardware",
    "label_bars",
    "label_free_scores",
    "learning_curves",
    "method_bars",
    "overlay_figure",
    "overview_picture",
    "save_figure",
    "score_case",
    "score_folder",
    "surface_distances",
    "versions",
    "write_adaptation_report",
    "write_evaluation_report",
    "write_scoreboard_report",
]
