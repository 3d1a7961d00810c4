"""The area under the ROC curve as a metric of a validation engine."""

from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.metrics import Metric
from torch import Tensor

from monai_transfer.evaluation.ranking import roc_auc


class MeanAUC(Metric):
    """Mean area under the ROC curve over the classes; of two classes that exclude each other it is that of the second.

    Classes of which the validation holds positives or negatives alone do not count; 0.5 where none does, so that a
    training that watches it goes on.

    Args:
        output_transform: gives ``(logits, target)`` of an engine's output: ``(batch, classes)``, and class numbers
            ``(batch,)`` or findings in 0, 1 and NaN ``(batch, classes)``.

    Example:
        >>> metric = MeanAUC()
        >>> metric.update((torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])))
        >>> metric.compute()
        1.0
    """

    def __init__(self, output_transform: Any = lambda output: output) -> None:
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        """Forget what was seen."""
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, output: tuple[Tensor, Tensor]) -> None:
        """Remember one batch."""
        logits, target = output
        self._logits.append(logits.detach().float().cpu())
        self._targets.append(target.detach().cpu())

    def compute(self) -> float:
        """The mean over all batches, of every process."""
        logits, target = torch.cat(self._logits), torch.cat(self._targets)
        if idist.get_world_size() > 1:
            logits, target = idist.all_gather(logits), idist.all_gather(target)
        if target.ndim == 1:
            scores = logits.softmax(1).double().numpy()
            truth = np.eye(logits.shape[1])[target.long().numpy()]
        else:
            scores, truth = logits.double().numpy(), target.numpy()
        areas = []
        for number in range(truth.shape[1]):
            known = ~np.isnan(truth[:, number])
            areas.append(float(roc_auc(scores[known, number], truth[known, number] == 1)) if known.any() else np.nan)
        return float(np.nanmean(areas)) if not np.isnan(areas).all() else 0.5
