"""Contrast of patches at the same place against patches elsewhere (PatchNCE)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_nce_loss(queries: Tensor, keys: Tensor, *, temperature: float = 0.07) -> Tensor:
    r"""Each query should be most like the key of its own place.

    .. math:: L = -\frac{1}{n} \sum_i \log \frac{\exp(\langle q_i, k_i \rangle / \tau)}
       {\sum_j \exp(\langle q_i, k_j \rangle / \tau)}

    of vectors brought to length 1; keys get no gradient. Park et al., *Contrastive Learning for Unpaired Image-to-Image
    Translation* (CUT), ECCV 2020.

    Args:
        queries: ``(batch, n, d)``, of the translated image.
        keys: ``(batch, n, d)``, of the original at the same places.
        temperature: :math:`\tau`.

    Returns:
        A scalar.

    Example:
        >>> places = torch.eye(3)[None]
        >>> float(patch_nce_loss(places, places)) < 1e-4, round(float(patch_nce_loss(places, places.roll(1, 1))), 1)
        (True, 14.3)
    """
    with torch.autocast(queries.device.type, enabled=False):
        q = F.normalize(queries if queries.dtype == torch.float64 else queries.float(), dim=-1)
        # without the detach the original's features could move to the translation's instead
        k = F.normalize(keys.detach().to(q.dtype), dim=-1)
        similarity = q @ k.transpose(1, 2) / temperature
        # the right answer of query i is key i: a classification among the n places
        own = torch.arange(q.shape[1], device=q.device).expand(q.shape[0], -1)
        return F.cross_entropy(similarity.flatten(0, 1), own.flatten())
