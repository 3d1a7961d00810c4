"""Learning from what nobody labelled: random shapes, painted anew at each step on the device that trains."""

from monai_transfer.pretraining.appearances import paint_shapes
from monai_transfer.pretraining.contrast import ContrastiveAgreement
from monai_transfer.pretraining.loader import FIRST, SECOND, ShapeLoader
from monai_transfer.pretraining.panels import ShapePanels
from monai_transfer.pretraining.shapes import KINDS, MOST_SHAPES, draw_shapes

__all__ = [
    "FIRST",
    "KINDS",
    "MOST_SHAPES",
    "SECOND",
    "ContrastiveAgreement",
    "ShapeLoader",
    "ShapePanels",
    "draw_shapes",
    "paint_shapes",
]
