"""Where a network starts: published weights, reading and fitting them, and an honest report."""

from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.weights.catalogue import CATALOGUE, Published
    from monai_transfer.weights.checkpoint import Checkpoint, bundle_label_names, read_checkpoint
    from monai_transfer.weights.fetching import cache_folder, fetch_file, locate
    from monai_transfer.weights.layout import Layout, recognise
    from monai_transfer.weights.loading import load_pretrained
    from monai_transfer.weights.report import LoadReport, TensorRecord
    from monai_transfer.weights.surgery import adapt_input_channels, copy_classes, inflate
    from monai_transfer.weights.verification import network_named

__all__ = [
    "CATALOGUE",
    "Checkpoint",
    "Layout",
    "LoadReport",
    "Published",
    "TensorRecord",
    "adapt_input_channels",
    "bundle_label_names",
    "cache_folder",
    "copy_classes",
    "fetch_file",
    "inflate",
    "load_pretrained",
    "locate",
    "network_named",
    "read_checkpoint",
    "recognise",
]

__getattr__ = imported_late(
    __name__,
    {
        "CATALOGUE": "catalogue",
        "Checkpoint": "checkpoint",
        "Layout": "layout",
        "LoadReport": "report",
        "Published": "catalogue",
        "TensorRecord": "report",
        "adapt_input_channels": "surgery",
        "bundle_label_names": "checkpoint",
        "cache_folder": "fetching",
        "copy_classes": "surgery",
        "fetch_file": "fetching",
        "inflate": "surgery",
        "load_pretrained": "loading",
        "locate": "fetching",
        "network_named": "verification",
        "read_checkpoint": "checkpoint",
        "recognise": "layout",
    },
)
