"""Adversarial alignment of segmentation maps."""

from torch import Tensor

from monai_transfer.adaptation.adversary import AdversarialMaps


class OutputAdversarial(AdversarialMaps):
    """The target's softmax maps learn to look like the source's, patch by patch.

    Shapes and arrangements of organs are the same in both modalities, so a discriminator on the output space sees
    anatomy and not intensities. As in the paper only the target's maps are pushed. Tsai et al., *Learning to Adapt
    Structured Output Space for Semantic Segmentation* (AdaptSegNet), CVPR 2018; here with gradient reversal.

    Its arguments are those of :class:`~monai_transfer.adaptation.adversary.AdversarialMaps`.

    Example:
        >>> import torch
        >>> from monai_transfer.adaptation import Outputs
        >>> outputs = {domain: Outputs(torch.zeros(1, 3, 16, 16)) for domain in ("source", "target")}
        >>> loss = OutputAdversarial(spatial_dims=2, classes=3).losses(outputs, {})["output_domain"]
        >>> loss.shape, bool(loss > 0)
        (torch.Size([]), True)
    """

    name = "output_domain"

    def maps(self, logits: Tensor) -> Tensor:
        """See :class:`~monai_transfer.adaptation.adversary.AdversarialMaps`."""
        return logits.softmax(1)
