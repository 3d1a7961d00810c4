"""Mixing the examinations of a batch and what they show, so that a network answers evenly between them."""

from collections.abc import Hashable, Mapping

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MixUp, Randomizable, Transform
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor
from torch.nn import functional


class MixExaminations(Randomizable, Transform):
    r"""MONAI's ``MixUp`` for a batch whose labels have no places: images and targets with the same shares.

    .. math:: \tilde x = \lambda x_i + (1 - \lambda) x_j, \quad \tilde y = \lambda y_i + (1 - \lambda) y_j, \quad
              \lambda \sim \text{Beta}(\alpha, \alpha)

    A finding that is unknown (NaN) of either stays unknown.

    Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.

    Args:
        alpha: above 0; at 0.2 most images stay nearly what they were, at 1 all shares are alike.
        classes: number of classes, where labels are numbers of classes.

    Example:
        >>> mix = MixExaminations(1.0, classes=2).set_random_state(0)
        >>> batch = mix({"image": torch.eye(2).reshape(2, 1, 1, 2), "label": torch.tensor([0, 1])})
        >>> bool(torch.allclose(batch["image"].flatten(1), batch["label"]))
        True
    """

    def __init__(self, alpha: float, *, classes: int) -> None:
        self.alpha = alpha
        self.classes = classes

    def randomize(self, data: Tensor) -> None:
        """Draw the shares and partners of a batch."""
        self.mix = MixUp(len(data), self.alpha)
        self.mix.set_random_state(seed=int(self.R.randint(2**31)))
        self.mix.randomize()

    def __call__(self, batch: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """The batch with mixed images ``(batch, C, *spatial)`` and targets ``(batch, classes)``."""
        label = torch.as_tensor(batch[Keys.LABEL])
        targets = functional.one_hot(label.long(), self.classes).float() if label.ndim == 1 else label
        self.randomize(targets)
        image = batch[Keys.IMAGE]
        # a batch of MetaTensor cannot be indexed by partners, and a mixture lies on nobody's grid
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        # MixUp takes images alone: targets pass as those of a single pixel
        mixed = self.mix.apply(targets[..., None, None]).flatten(1)
        return {**batch, Keys.IMAGE: self.mix.apply(plain), Keys.LABEL: mixed}
