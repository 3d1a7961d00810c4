"""Transfer learning and domain adaptation for MONAI.

The jobs of the command line as functions, each fetched when it is first asked for, so that importing the package costs
nothing: ``from monai_transfer import adapt, evaluate, finetune, load_pretrained, read_dataset, segment, train``.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING

from monai_transfer.imports import imported_late

if TYPE_CHECKING:
    from monai_transfer.datasets import read_dataset
    from monai_transfer.weights import load_pretrained
    from monai_transfer.workflows.adaptation import adapt
    from monai_transfer.workflows.evaluation import evaluate
    from monai_transfer.workflows.finetuning import finetune
    from monai_transfer.workflows.segmenting import segment
    from monai_transfer.workflows.training import train

__all__ = ["adapt", "evaluate", "finetune", "load_pretrained", "read_dataset", "segment", "train"]

__version__ = version("monai-transfer")

__getattr__ = imported_late(
    __name__,
    {
        "adapt": "workflows.adaptation",
        "evaluate": "workflows.evaluation",
        "finetune": "workflows.finetuning",
        "load_pretrained": "weights.loading",
        "read_dataset": "datasets.layouts",
        "segment": "workflows.segmenting",
        "train": "workflows.training",
    },
)
