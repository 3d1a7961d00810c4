"""Where a network starts: published weights, reading and fitting them, and an honest report."""

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
