"""Organs keep their sizes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from monai_transfer.adaptation.domains import is_target, of_target
from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs
from monai_transfer.errors import UserError
from monai_transfer.losses import proportion_divergence


class ForegroundPrior(AdaptationMethod):
    r"""The share of each class in the target's predictions stays near its share in the source's labels.

    .. math:: L = \max\left(0, \mathrm{KL}(\tau \,\Vert\, \hat p) - \mathtt{margin}\right)

    with :math:`\hat p` the mean softmax of the step's target patches. It keeps entropy minimisation and self-training
    from collapsing to background. It presumes that both domains are cropped alike. Bateson et al., *Source-relaxed* and
    *Source-free domain adaptation for image segmentation*, MICCAI 2020 and MedIA 2022.

    Args:
        classes: number of classes, background included.
        weight: weight at full strength.
        proportions: :math:`\tau`, one share per class; by default the mean over all source labels seen so far.
        margin: divergence that costs nothing, in nats: patches differ in what they show.
    """

    def __init__(
        self, classes: int, weight: float = 0.1, *, proportions: Sequence[float] | None = None, margin: float = 0.05
    ) -> None:
        super().__init__(weight)
        if proportions is not None and (len(proportions) != classes or min(proportions) < 0 or sum(proportions) <= 0):
            raise UserError(
                f"ForegroundPrior needs one share of at least 0 for each of {classes} classes in proportions"
            )
        self.classes = classes
        self.margin = margin
        self.fixed = proportions is not None
        tau = torch.zeros(classes) if proportions is None else torch.tensor(proportions) / sum(proportions)
        self.expected: Tensor
        self.seen: Tensor
        self.register_buffer("expected", tau)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The divergence, averaged over target domains."""
        if not self.fixed:
            self._learn(batch)
        per_domain = []
        for out in of_target(outputs):
            predicted = out.logits.float().softmax(1).movedim(1, -1).flatten(0, -2).mean(0)
            per_domain.append((proportion_divergence(predicted, self.expected) - self.margin).clamp_min(0))
        return {"proportions": self.scaled(torch.stack(per_domain).mean())}

    @torch.no_grad()
    def _learn(self, batch: Batch) -> None:
        labels = [t["label"] for name, t in batch.items() if not is_target(name) and "label" in t]
        for label in labels:
            shares = torch.bincount(label.long().flatten(), minlength=self.classes).float() / label.numel()
            self.seen += 1
            self.expected += (shares - self.expected) / self.seen
        if not int(self.seen):
            raise UserError("ForegroundPrior has seen no source label: set proportions, one share per class")
