"""Training on the target with labels that the network gave it, corrected by anatomy and intensities."""

from collections.abc import Mapping

import torch
from torch import Tensor

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, is_target, of_target
from monai_transfer.errors import UserError
from monai_transfer.losses import pseudo_label_loss
from monai_transfer.transforms.target import PSEUDO_LABEL, TAUGHT, UNLABELLED

_SILENT = -1e4
"""Logit of a class that takes no part in a softmax; finite, for an infinity times zero is not a number."""


class SelfTraining(AdaptationMethod):
    """Learns the target's volumes with the labels found in ``batch["target"]["pseudo_label"]``.

    The labels are made in the course of the training by :class:`monai_transfer.engines.TargetView`: the averaged
    network's prediction of a whole volume, corrected by anatomy (:class:`~monai_transfer.adaptation.LabelAtlas`) and by
    that volume's intensities (:func:`~monai_transfer.adaptation.refine_probabilities`), voxels that stay doubtful left
    out. After Lee, *Pseudo-Label*, ICML workshop 2013, and Zou et al., *Class-Balanced Self-Training*, ECCV 2018. In a
    volume of which a class was not believed, background stands for that class too: the loss is that of their sum (Shi
    et al., *Marginal loss and exclusion loss*, MedIA 2021), so that the class is not unlearnt.

    Args:
        weight: weight of Dice and cross entropy on the trusted voxels at full strength.
        waits_for: the label maps that the target's transforms hand out; while there is none the target is not run.

    Example:
        >>> logits = torch.zeros(1, 2, 4, 4)
        >>> doubtful = torch.full((1, 1, 4, 4), UNLABELLED)
        >>> losses = SelfTraining().losses({"target": Outputs(logits)}, {"target": {PSEUDO_LABEL: doubtful}})
        >>> float(losses["self_training"])
        0.0
    """

    rests_at_zero = True

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """Dice and cross entropy over the pseudo-labelled voxels of every target domain; 0 where there is none.

        A target domain with labels of its own is left to the supervised loss.

        Raises:
            UserError: when the target's transforms give no pseudo-label.
        """
        targets = of_target(outputs)
        if self.strength == 0:
            return {"self_training": targets[0].logits.new_zeros(())}
        unlabelled = {name: out for name, out in outputs.items() if is_target(name) and "label" not in batch[name]}
        terms = [_loss(name, out.logits, batch) for name, out in unlabelled.items()]
        return {"self_training": self.scaled(sum(terms, targets[0].logits.new_zeros((), dtype=torch.float)))}


def _loss(name: str, logits: Tensor, batch: Batch) -> Tensor:
    if PSEUDO_LABEL not in batch[name]:
        raise UserError(
            f"SelfTraining needs batch[{name!r}][{PSEUDO_LABEL!r}]: give the target's preset pseudo_labels, as the "
            "bundle domain_adaptation does."
        )
    label = batch[name][PSEUDO_LABEL]
    known = label != UNLABELLED
    taught = batch[name].get(TAUGHT)
    merged = logits.float() if taught is None else _with_background(logits.float(), taught[:, : logits.shape[1]])
    return pseudo_label_loss(merged, label.long() * known, known)


def _with_background(logits: Tensor, taught: Tensor) -> Tensor:
    """Logits ``(batch, classes, *spatial)`` in which background stands for all classes that a volume does not teach.

    Args:
        logits: of the network.
        taught: ``(batch, classes)``.
    """
    if bool(taught.all()):
        return logits
    teaches = taught.reshape(*taught.shape, *[1] * (logits.ndim - 2))
    others = logits.masked_fill(teaches, -torch.inf)
    background = torch.logsumexp(torch.cat([logits[:, :1], others], 1), 1, keepdim=True)
    silent = logits[:, 1:].masked_fill(~teaches[:, 1:], _SILENT)
    return torch.cat([background, silent], 1)
