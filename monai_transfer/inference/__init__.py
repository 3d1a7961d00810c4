"""From a volume on disk to a label map on the same grid."""

from monai_transfer.inference.cases import InputCase, Inputs, find_cases
from monai_transfer.inference.folder import CaseProgress, segment_folder
from monai_transfer.inference.inferer import StreamingInferer
from monai_transfer.inference.segmentation import Cleaning, Segmentation
from monai_transfer.inference.segmenter import Segmenter, SegmentOptions

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
