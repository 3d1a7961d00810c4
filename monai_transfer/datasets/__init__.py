"""From folders of volumes to MONAI datalists: layouts, integrity check, fingerprint, the domain loader."""

from typing import TYPE_CHECKING, Any

from monai_transfer.datasets.cases import Case, CaseDataset, Fault
from monai_transfer.datasets.exam_integrity import ExamReport, check_exams, require_sound_exams
from monai_transfer.datasets.exam_layouts import read_exams
from monai_transfer.datasets.exams import Exam, ExamDataset
from monai_transfer.datasets.fingerprint import Fingerprint
from monai_transfer.datasets.integrity import CheckReport, check_dataset, require_sound
from monai_transfer.datasets.layouts import read_dataset

if TYPE_CHECKING:
    from monai_transfer.datasets.loader import CyclingSampler, DomainLoader

__all__ = [
    "Case",
    "CaseDataset",
    "CheckReport",
    "CyclingSampler",
    "DomainLoader",
    "Exam",
    "ExamDataset",
    "ExamReport",
    "Fault",
    "Fingerprint",
    "check_dataset",
    "check_exams",
    "read_dataset",
    "read_exams",
    "require_sound",
    "require_sound_exams",
]


def __getattr__(name: str) -> Any:
    """Import the loader, and torch and MONAI with it, when it is first asked for: checking files needs neither."""
    if name in ("CyclingSampler", "DomainLoader"):
        from monai_transfer.datasets import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
