"""Adversarial alignment of entropy maps."""

from torch import Tensor

from monai_transfer.adaptation.adversary import AdversarialMaps
from monai_transfer.losses import self_information


class AdvEnt(AdversarialMaps):
    """The target's maps of weighted self-information learn to look like the source's.

    A network is certain on the source inside of organs and doubtful along their borders only; on the target it is
    doubtful everywhere. As in the paper only the target's maps are pushed. Vu et al., *ADVENT: Adversarial Entropy
    Minimization for Domain Adaptation in Semantic Segmentation*, CVPR 2019; here with gradient reversal.

    Its arguments are those of :class:`~monai_transfer.adaptation.adversary.AdversarialMaps`.

    Example:
        >>> import torch
        >>> from monai_transfer.adaptation import Outputs
        >>> outputs = {domain: Outputs(torch.zeros(1, 3, 16, 16)) for domain in ("source", "target")}
        >>> loss = AdvEnt(spatial_dims=2, classes=3).losses(outputs, {})["entropy_domain"]
        >>> loss.shape, bool(loss > 0)
        (torch.Size([]), True)
    """

    name = "entropy_domain"

    def maps(self, logits: Tensor) -> Tensor:
        """See :class:`~monai_transfer.adaptation.adversary.AdversarialMaps`."""
        return self_information(logits)
