"""From a volume on disk to a label map on the same grid."""

from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.inference.cases import InputCase, Inputs, find_cases
    from monai_transfer.inference.folder import CaseProgress, segment_folder
    from monai_transfer.inference.inferer import StreamingInferer
    from monai_transfer.inference.options import Cleaning, SegmentOptions
    from monai_transfer.inference.segmentation import Segmentation
    from monai_transfer.inference.segmenter import Segmenter

__all__ = [
    "CaseProgress",
    "Cleaning",
    "InputCase",
    "Inputs",
    "SegmentOptions",
    "Segmentation",
    "Segmenter",
    "StreamingInferer",
    "find_cases",
    "segment_folder",
]

__getattr__ = imported_late(
    __name__,
    {
        "CaseProgress": "folder",
        "Cleaning": "options",
        "InputCase": "cases",
        "Inputs": "cases",
        "SegmentOptions": "options",
        "Segmentation": "segmentation",
        "Segmenter": "segmenter",
        "StreamingInferer": "inferer",
        "find_cases": "cases",
        "segment_folder": "folder",
    },
)
