"""Organs keep their sizes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, is_target, of_target
from monai_transfer.errors import UserError
from monai_transfer.losses import size_divergence
from monai_transfer.processes import mean_over_processes


class ForegroundPrior(AdaptationMethod):
    r"""The share of each class in the target's predictions stays near its share in the source's labels.

    .. math:: L = \frac{1}{|K|} \sum_{k \in K} \max\left(0, \frac{\hat p_k}{\tau_k} - 1 -
       \log \frac{\hat p_k}{\tau_k} - \mathtt{margin}\right)

    with :math:`K` the foreground classes of a share above 0 and :math:`\hat p` the mean softmax of the target, a moving
    average over the steps through whose latest term the gradient flows. It keeps entropy minimisation and self-training
    from collapsing to background. It presumes that both domains are cropped alike: crops around labels, as the bundles
    make them of the source, show more foreground than the target's random ones unless the window covers the volume;
    then give ``proportions``. After Bateson et al., *Source-relaxed* and *Source-free domain adaptation for image
    segmentation*, MICCAI 2020 and MedIA 2022, whose divergence weighs a class by its size.

    Args:
        classes: number of classes, background included.
        weight: weight at full strength.
        proportions: :math:`\tau`, one share per class; by default the mean over the source labels seen so far.
        margin: divergence of a class that costs nothing; with 0.2 from half to 1.7 times the expected size.
        momentum: of the moving average: single patches differ in what they show.

    Example:
        >>> method = ForegroundPrior(classes=2, weight=1.0, proportions=(0.9, 0.1))
        >>> lost = torch.tensor([9.0, -9.0]).reshape(1, 2, 1, 1).expand(1, 2, 8, 8)
        >>> bool(method.losses({"target": Outputs(lost)}, {})["proportions"] > 5)
        True
    """

    rests_at_zero = True

    def __init__(
        self,
        classes: int,
        weight: float = 0.1,
        *,
        proportions: Sequence[float] | None = None,
        margin: float = 0.2,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(weight)
        if proportions is not None and (len(proportions) != classes or min(proportions) < 0 or sum(proportions) <= 0):
            raise UserError(
                f"ForegroundPrior needs one share of at least 0 for each of {classes} classes in proportions"
            )
        self.classes = classes
        self.margin = margin
        self.momentum = momentum
        self.fixed = proportions is not None
        tau = torch.zeros(classes) if proportions is None else torch.tensor(proportions) / sum(proportions)
        self.expected: Tensor
        self.predicted: Tensor
        self.labels_seen: Tensor
        self.steps: Tensor
        self.register_buffer("expected", tau)
        self.register_buffer("predicted", torch.zeros(classes))
        self.register_buffer("labels_seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The divergence, averaged over the foreground classes."""
        logits = [out.logits for out in of_target(outputs)]
        if self.strength == 0:
            return {"proportions": logits[0].new_zeros(())}
        if not self.fixed:
            self._learn(batch)
        shares = [each.float().softmax(1).movedim(1, -1).flatten(0, -2).mean(0) for each in logits]
        share = mean_over_processes(torch.stack(shares).mean(0))
        divergence = size_divergence(self._averaged(share), self.expected)
        excess = (divergence - self.margin).clamp_min(0)[1:]
        counts = self.expected[1:] > 0
        return {"proportions": self.scaled(torch.where(counts, excess, 0).sum() / counts.sum().clamp_min(1))}

    def _averaged(self, shares: Tensor) -> Tensor:
        """The moving average with these shares in it; its gradient is theirs."""
        # a plain mean until the window is full, so that the first steps are not drawn to zero
        momentum = (self.steps / (self.steps + 1)).clamp_max(self.momentum)
        self.predicted += (1 - momentum) * (shares.detach() - self.predicted)
        self.steps += 1
        # the value of the average, the gradient of the present step
        return self.predicted + shares - shares.detach()

    @torch.no_grad()
    def _learn(self, batch: Batch) -> None:
        labels = [t["label"] for name, t in batch.items() if not is_target(name) and "label" in t]
        if not labels and not int(self.labels_seen):
            raise UserError("ForegroundPrior has seen no source label: set proportions, one share per class")
        for label in labels:
            shares = torch.bincount(label.long().flatten(), minlength=self.classes).float() / label.numel()
            shares = mean_over_processes(shares)
            self.labels_seen += 1
            self.expected += (shares - self.expected) / self.labels_seen
