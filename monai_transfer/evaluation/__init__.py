"""Figures that can be trusted: metrics, the gap report, label-free scores."""

from monai_transfer.evaluation.auc_metric import MeanAUC
from monai_transfer.evaluation.diagnosis_scores import DiagnosisScores, Interval, score_diagnosis
from monai_transfer.evaluation.folder import score_folder
from monai_transfer.evaluation.gap import AdaptationSummary, gap_recovered
from monai_transfer.evaluation.label_free import (
    PredictionCertainty,
    PredictionInformation,
    SoftNeighbourhoodDensity,
    TeacherStudentAgreement,
)
from monai_transfer.evaluation.scoreboard import Scoreboard, ScoredRun
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
from monai_transfer.evaluation.surfaces import surface_distances
from monai_transfer.evaluation.table import LabelSummary, ScoreTable

__all__ = [
    "METRICS",
    "AdaptationSummary",
    "CheckpointChoice",
    "Choice",
    "DiagnosisScores",
    "Interval",
    "LabelFreeScores",
    "LabelScore",
    "LabelSummary",
    "MeanAUC",
    "PredictionCertainty",
    "PredictionInformation",
    "ScoreTable",
    "Scoreboard",
    "ScoredRun",
    "SoftNeighbourhoodDensity",
    "SourceSizes",
    "TeacherStudentAgreement",
    "choose_checkpoint",
    "choose_network",
    "gap_recovered",
    "label_free_scores",
    "score_case",
    "score_diagnosis",
    "score_folder",
    "surface_distances",
]
