"""Torso phantoms: labelled CT and MR of generated people, for trying things out without patients."""

from monai_transfer.phantoms.dataset import Phantom, make_phantom, write_phantoms
from monai_transfer.phantoms.radiographs import make_radiograph, write_radiographs
from monai_transfer.phantoms.tissue import LABEL_NAMES, Tissue

__all__ = ["LABEL_NAMES", "Phantom", "Tissue", "make_phantom", "make_radiograph", "write_phantoms", "write_radiographs"]
