"""From a volume on disk to a label map on the same grid."""

from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.inference.cases import InputCase, Inputs, find_cases
    from monai_transfer.inference.inferer import StreamingInferer
    from monai_transfer.inference.segmentation import Cleaning, Segmentation, SegmentOptions
    from monai_transfer.inference.segmenter import Segmenter

__all__ = [
    "Cleaning",
    "InputCase",
    "Inputs",
    "SegmentOptions",
    "Segmentation",
    "Segmenter",
    "StreamingInferer",
    "find_cases",
]

__getattr__ = imported_late(
    __name__,
    {
        "Cleaning": "segmentation",
        "InputCase": "cases",
        "Inputs": "cases",
        "SegmentOptions": "segmentation",
        "Segmentation": "segmentation",
        "Segmenter": "segmenter",
        "StreamingInferer": "inferer",
        "find_cases": "cases",
    },
)
