"""The trainer that steps, and its handlers."""

from monai_transfer.engines.attached import Attached
from monai_transfer.engines.budget import Budget
from monai_transfer.engines.checkpoints import Checkpoints
from monai_transfer.engines.collapse import CollapseGuard
from monai_transfer.engines.history import History, read_history
from monai_transfer.engines.interrupt import GracefulInterrupt
from monai_transfer.engines.panels import ContourPanels
from monai_transfer.engines.progress import TrainingProgress
from monai_transfer.engines.resume import ExactResume
from monai_transfer.engines.schedule import BalanceSchedule, StrengthSchedule, TwoStageCosineSchedule
from monai_transfer.engines.target_view import TargetView
from monai_transfer.engines.trainer import AdaptationTrainer

__all__ = [
    "AdaptationTrainer",
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
    "read_history",
]
