"""Normalisation layers that differ by domain, in a network that does not."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs
from monai_transfer.adaptation.norm_layers import stateful_norms
from monai_transfer.errors import UserError


class DomainSpecificBatchNorm(AdaptationMethod):
    """Each source has its own normalisation statistics, scale and shift; the network holds the target's.

    During a source's forward pass the layers' parameters and buffers are exchanged for that source's, which live
    here; afterwards they are put back. So the network itself, and its checkpoint, stay plain and are the target's.
    A target without labels trains its scale and shift only if another method gives it a loss. Chang et al.,
    *Domain-Specific Batch Normalization for Unsupervised Domain Adaptation*, CVPR 2019.

    Args:
        network: the network to be trained: its normalisation layers are copied now, so that the copies' parameters
            are known to the optimizer.
        sources: names of the sources.
        affine: whether scale and shift differ too, or statistics alone.

    Raises:
        UserError: the network has no normalisation layer that could differ by domain.

    Example:
        >>> import torch
        >>> network = nn.BatchNorm2d(1)
        >>> method = DomainSpecificBatchNorm(network)
        >>> with method.forward_context(network, "source"):
        ...     _ = network(5 + torch.rand(2, 1, 4, 4))
        >>> float(network.running_mean), float(method.norms["source"][0].running_mean) > 0.5
        (0.0, True)
    """

    needs_target_gradient = False

    def __init__(self, network: nn.Module, sources: Sequence[str] = ("source",), *, affine: bool = True) -> None:
        super().__init__()
        self.affine = affine
        layers = [layer for layer in stateful_norms(network) if affine or layer.running_mean is not None]
        if not layers:
            raise UserError(
                f"DomainSpecificBatchNorm finds no statistics or parameters of normalisation in this "
                f"{type(network).__name__}: choose a network with batch normalisation"
            )
        self.norms = nn.ModuleDict({name: nn.ModuleList(copy.deepcopy(layer) for layer in layers) for name in sources})
        if not affine:
            for layer in self.norms.modules():
                layer._parameters.clear()
        self._exchanged: set[str] = set()

    @contextmanager
    def forward_context(self, network: nn.Module, domain: str) -> Iterator[None]:
        """Lend a source its own normalisation while it is run forward."""
        if domain not in self.norms:
            yield
            return
        self._exchanged.add(domain)
        layers = [layer for layer in stateful_norms(network) if self.affine or layer.running_mean is not None]
        own = list(
            zip(layers, [dict(layer._parameters) for layer in layers], [dict(x._buffers) for x in layers], strict=True)
        )
        # exchanged in the dictionaries: the optimizer and the network keep their own tensors
        for layer, lent in zip(layers, self._of(domain), strict=True):
            layer._parameters.update(lent._parameters)
            layer._buffers.update(lent._buffers)
        try:
            yield
        finally:
            for layer, parameters, buffers in own:
                layer._parameters.update(parameters)
                layer._buffers.update(buffers)

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """No losses.

        Raises:
            RuntimeError: a source was run forward outside of :meth:`forward_context`.
        """
        for name in set(self.norms) & set(outputs):
            if name not in self._exchanged:
                raise RuntimeError(f"{name} was run forward without DomainSpecificBatchNorm.forward_context")
        self._exchanged.clear()
        return {}

    def _of(self, domain: str) -> nn.ModuleList:
        norms = self.norms[domain]
        assert isinstance(norms, nn.ModuleList)
        return norms
