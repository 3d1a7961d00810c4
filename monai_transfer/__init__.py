"""Transfer learning and domain adaptation for MONAI.

The jobs of the command line as functions, each fetched when it is first asked for, so that importing the package costs
nothing: ``from monai_transfer import adapt, evaluate, finetune, load_pretrained, read_dataset, segment, train``.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "adapt": "workflows.adaptation",
    "evaluate": "workflows.evaluation",
    "finetune": "workflows.finetuning",
    "load_pretrained": "weights",
    "read_dataset": "datasets",
    "segment": "workflows.segmenting",
    "train": "workflows.training",
}


# There is no __dir__ that lists them: MONAI's configuration parser looks at every member of every module whose name
# holds "monai", and would import all jobs whenever a bundle is read.
def __getattr__(name: str) -> Any:
    """Fetch one of ``__all__`` from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
