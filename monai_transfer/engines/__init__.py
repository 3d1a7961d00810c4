"""The trainer that steps, and its handlers."""

from monai_transfer.engines.budget import Budget
from monai_transfer.engines.health import CollapseGuard
from monai_transfer.engines.history import ContourPanels, History, read_history
from monai_transfer.engines.resume import Checkpoints, ExactResume
from monai_transfer.engines.schedule import (
    BalanceSchedule,
    StrengthSchedule,
    TwoStageCosineSchedule,
    averaging_momentum,
)
from monai_transfer.engines.target_view import AtlasKeeper, TargetView
from monai_transfer.engines.terminal import GracefulInterrupt, TrainingProgress
from monai_transfer.engines.trainer import AdaptationTrainer, Attached

__all__ = [
    "AdaptationTrainer",
    "AtlasKeeper",
    "Attached",
    "BalanceSchedule",
    "Budget",
    "Checkpoints",
    "CollapseGuard",
    "ContourPanels",
    "ExactResume",
    "GracefulInterrupt",
    "History",
    "StrengthSchedule",
    "TargetView",
    "TrainingProgress",
    "TwoStageCosineSchedule",
    "averaging_momentum",
    "read_history",
]
