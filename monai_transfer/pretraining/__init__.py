"""Learning from what nobody labelled: random shapes in random contrasts, or volumes with hidden blocks."""

from monai_transfer.pretraining.appearances import paint_shapes
from monai_transfer.pretraining.contrast import ContrastiveAgreement
from monai_transfer.pretraining.loader import FIRST, SECOND, ShapeLoader
from monai_transfer.pretraining.masking import HiddenBlocksd, HiddenReconstructionLoss, masked_preset
from monai_transfer.pretraining.panels import ReconstructionPanels, ShapePanels
from monai_transfer.pretraining.shapes import KINDS, MOST_SHAPES, draw_shapes

__all__ = [
    "FIRST",
    "KINDS",
    "MOST_SHAPES",
    "SECOND",
    "ContrastiveAgreement",
    "HiddenBlocksd",
    "HiddenReconstructionLoss",
    "ReconstructionPanels",
    "ShapeLoader",
    "ShapePanels",
    "draw_shapes",
    "masked_preset",
    "paint_shapes",
]
