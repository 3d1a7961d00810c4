"""Torso phantoms: labelled CT and MR of generated people, for trying things out without patients."""

from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.phantoms.dataset import Phantom, make_phantom, write_phantoms
    from monai_transfer.phantoms.radiographs import make_radiograph, write_radiographs
    from monai_transfer.phantoms.tissue import LABEL_NAMES, Tissue

__all__ = ["LABEL_NAMES", "Phantom", "Tissue", "make_phantom", "make_radiograph", "write_phantoms", "write_radiographs"]

__getattr__ = imported_late(
    __name__,
    {
        "LABEL_NAMES": "tissue",
        "Phantom": "dataset",
        "Tissue": "tissue",
        "make_phantom": "dataset",
        "make_radiograph": "radiographs",
        "write_phantoms": "dataset",
        "write_radiographs": "radiographs",
    },
)
