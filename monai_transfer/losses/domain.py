"""Losses of a discriminator that tells source from target."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

DomainLossKind = Literal["bce", "least_squares"]


def domain_loss(logits: Tensor, domain: float, *, kind: DomainLossKind = "bce") -> Tensor:
    r"""How badly domain logits tell the domain label, on average.

    With :math:`z` the logit and :math:`d` the label (0 source, 1 target):

    .. math:: L_\mathrm{BCE} = -d \log \sigma(z) - (1 - d) \log(1 - \sigma(z)), \qquad
       L_\mathrm{LS} = (z - d)^2

    BCE as in Ganin et al., JMLR 2016; least squares as in Mao et al., *Least Squares GAN*, ICCV 2017.
    Computed in float32 at least, whatever autocast says.

    Args:
        logits: any shape.
        domain: the domain label of all of them.
        kind: ``"bce"`` or ``"least_squares"``.

    Returns:
        A scalar.

    Raises:
        ValueError: ``kind`` is neither.

    Example:
        >>> undecided = torch.zeros(4, 1)
        >>> round(float(domain_loss(undecided, 1)), 3), float(domain_loss(undecided, 1, kind="least_squares"))
        (0.693, 1.0)
    """
    if kind not in ("bce", "least_squares"):
        raise ValueError(f"kind must be 'bce' or 'least_squares', not {kind!r}")
    with torch.autocast(logits.device.type, enabled=False):
        z = logits if logits.dtype == torch.float64 else logits.float()
        label = torch.full_like(z, domain)
        if kind == "bce":
            return F.binary_cross_entropy_with_logits(z, label)
        return F.mse_loss(z, label)
