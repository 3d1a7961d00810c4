"""From folders of volumes to MONAI datalists: layouts, integrity check, fingerprint, the domain loader."""

from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.datasets.body_sizes import body_scale
    from monai_transfer.datasets.cases import Case, CaseDataset, Fault
    from monai_transfer.datasets.exam_integrity import ExamReport, check_exams, require_sound_exams
    from monai_transfer.datasets.exam_layouts import read_exams
    from monai_transfer.datasets.exams import Exam, ExamDataset
    from monai_transfer.datasets.fingerprint import Fingerprint
    from monai_transfer.datasets.integrity import CheckReport, check_dataset, require_sound
    from monai_transfer.datasets.layouts import read_dataset
    from monai_transfer.datasets.loader import CyclingSampler, DomainLoader
    from monai_transfer.datasets.two_tasks import TwoTaskDataset, read_two_tasks

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
    "TwoTaskDataset",
    "body_scale",
    "check_dataset",
    "check_exams",
    "read_dataset",
    "read_exams",
    "read_two_tasks",
    "require_sound",
    "require_sound_exams",
]

__getattr__ = imported_late(
    __name__,
    {
        "Case": "cases",
        "CaseDataset": "cases",
        "CheckReport": "integrity",
        "CyclingSampler": "loader",
        "DomainLoader": "loader",
        "Exam": "exams",
        "ExamDataset": "exams",
        "ExamReport": "exam_integrity",
        "Fault": "cases",
        "Fingerprint": "fingerprint",
        "TwoTaskDataset": "two_tasks",
        "body_scale": "body_sizes",
        "check_dataset": "integrity",
        "check_exams": "exam_integrity",
        "read_dataset": "layouts",
        "read_exams": "exam_layouts",
        "read_two_tasks": "two_tasks",
        "require_sound": "integrity",
        "require_sound_exams": "exam_integrity",
    },
)
