"""Self-ensembling: a student that agrees with the moving average of itself."""

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, is_target, of_target
from monai_transfer.adaptation.trust import ClassBalancedTrust
from monai_transfer.errors import UserError
from monai_transfer.losses import probability_mse, pseudo_label_loss, soft_cross_entropy

TeacherLoss = Literal["soft", "mse", "pseudo_label"]


class MeanTeacher(AdaptationMethod):
    r"""The student learns on a strongly augmented view what the teacher predicts on the weak view of the target.

    The teacher's weights follow the student's after every step:

    .. math:: \theta' \leftarrow m \theta' + (1 - m) \theta, \qquad m = \min\left(\mathtt{momentum},
       \frac{1 + i}{10 + i}\right)

    Tarvainen and Valpola, NeurIPS 2017; for domain adaptation French et al., *Self-ensembling for visual domain
    adaptation*, ICLR 2018, and, in medical imaging, Perone et al., NeuroImage 2019. The weak view is
    ``batch["target"]["weak"]`` where the transforms keep it, otherwise ``"image"``. Masking patches of the
    student's view (Hoyer et al., *MIC*, CVPR 2023) is a transform (MONAI's ``RandCoarseDropoutd``).

    Args:
        classes: number of classes, background included.
        weight: weight of the consistency at full strength.
        loss: ``"soft"`` cross entropy or ``"mse"`` against the teacher's probabilities, or ``"pseudo_label"``: Dice and
            cross entropy against its trusted classes.
        momentum: greatest momentum of the teacher.
        keep: share of each class's voxels, as predicted, that is trusted at strength 0 and 1: the curriculum of
            class-balanced self-training. ``None`` trusts all.
        confidence: probability from which a voxel is trusted whatever its rank, and below ``floor`` never is.
        floor: least probability of a trusted voxel.
        teacher_mode: ``"eval"``, or ``"train"`` to let the teacher use the statistics of its own batch.

    Example:
        >>> network = nn.Conv2d(1, 3, 1)
        >>> method = MeanTeacher(classes=3)
        >>> method.prepare(network)
        >>> image = torch.rand(1, 1, 8, 8)
        >>> losses = method.losses({"target": Outputs(network(image))}, {"target": {"image": image}})
        >>> method.after_step(network)
        >>> losses["consistency"].requires_grad, int(method.steps)
        (True, 1)
    """

    rests_at_zero = True

    def __init__(
        self,
        classes: int,
        weight: float = 1.0,
        *,
        loss: TeacherLoss = "soft",
        momentum: float = 0.99,
        keep: tuple[float, float] | None = None,
        confidence: float = 0.95,
        floor: float = 0.0,
        teacher_mode: Literal["eval", "train"] = "eval",
    ) -> None:
        super().__init__(weight)
        if loss not in ("soft", "mse", "pseudo_label"):
            raise UserError(f"MeanTeacher has no loss {loss!r}: choose soft, mse or pseudo_label")
        self.loss = loss
        self.momentum = momentum
        self.teacher_mode = teacher_mode
        self.trust = (
            None if keep is None else ClassBalancedTrust(classes, keep=keep, confidence=confidence, floor=floor)
        )
        self.teacher: nn.Module | None = None
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def prepare(self, network: nn.Module) -> None:
        """Copy the network as the first teacher."""
        teacher = copy.deepcopy(network).requires_grad_(False)
        self.teacher = teacher.train(self.teacher_mode == "train")

    def train(self, mode: bool = True) -> "MeanTeacher":
        """Set the mode of all but the teacher, which has its own."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.train(self.teacher_mode == "train")
        return self

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """The consistency of student and teacher on every target domain."""
        students = [out.logits for out in of_target(outputs)]
        if self.strength == 0:
            return {"consistency": students[0].new_zeros(())}
        per_domain = []
        for name, out in outputs.items():
            if is_target(name):
                view = batch[name].get("weak", batch[name]["image"])
                per_domain.append(self._consistency(out.logits, view))
        return {"consistency": self.scaled(torch.stack(per_domain).mean())}

    def _consistency(self, student: Tensor, view: Tensor) -> Tensor:
        if self.teacher is None:
            raise RuntimeError("MeanTeacher has no teacher yet: call prepare(network) first")
        with torch.no_grad():
            probabilities = self.teacher(view).float().softmax(1)
            mask = None if self.trust is None else self.trust(probabilities, self.strength)
        if self.loss == "soft":
            return soft_cross_entropy(student.float(), probabilities, mask)
        if self.loss == "mse":
            return probability_mse(student.float(), probabilities, mask)
        return pseudo_label_loss(student.float(), probabilities.max(1, keepdim=True).indices, mask)

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """Move the teacher towards the student."""
        if self.teacher is None:
            raise RuntimeError("MeanTeacher has no teacher yet: call prepare(network) first")
        step = int(self.steps)
        # the first teachers follow quickly: a long memory of random weights teaches nothing
        momentum = min(self.momentum, (1 + step) / (10 + step))
        for mine, new in zip(self.teacher.parameters(), network.parameters(), strict=True):
            mine.lerp_(new.detach(), 1 - momentum)
        for own, current in zip(self.teacher.buffers(), network.buffers(), strict=True):
            # statistics are averages already; an average of them would lag twice
            own.copy_(current)
        self.steps += 1
