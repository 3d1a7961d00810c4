"""From a volume on disk to a label map on the same grid."""

from monai_transfer.inference.bundle import InferenceBundle, made_here, read_bundle
from monai_transfer.inference.cases import InputCase, find_cases
from monai_transfer.inference.cleaning import Cleaning
from monai_transfer.inference.folder import CaseProgress, segment_folder
from monai_transfer.inference.inferer import StreamingInferer
from monai_transfer.inference.segmentation import Segmentation
from monai_transfer.inference.segmenter import Segmenter, SegmentOptions, choose_device

__all__ = [
    "CaseProgress",
    "Cleaning",
    "InferenceBundle",
    "InputCase",
    "SegmentOptions",
    "Segmentation",
    "Segmenter",
    "StreamingInferer",
    "choose_device",
    "find_cases",
    "made_here",
    "read_bundle",
    "segment_folder",
]
