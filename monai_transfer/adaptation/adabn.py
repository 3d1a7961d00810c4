"""Normalisation statistics that belong to the target alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from monai_transfer.adaptation.method import AdaptationMethod, Batch, Outputs, is_target
from monai_transfer.adaptation.norm_layers import batch_norms
from monai_transfer.errors import UserError


class AdaBN(AdaptationMethod):
    """The running statistics of batch normalisation follow the target; the source is normalised by its own batches.

    After training the network normalises with target statistics, which is what inference on the target needs.
    Weights are shared. Li et al., *Revisiting Batch Normalization for Practical Domain Adaptation*, 2016; to
    recalibrate a network that is trained already, see :func:`monai_transfer.adaptation.recalibrate_norm`.

    Example:
        >>> import torch
        >>> network = nn.BatchNorm2d(1)
        >>> with AdaBN().forward_context(network, "source"):
        ...     _ = network(5 + torch.rand(2, 1, 4, 4))
        >>> float(network.running_mean)
        0.0
    """

    needs_target_gradient = False

    def prepare(self, network: nn.Module) -> None:
        """Check that there is something to adapt.

        Raises:
            UserError: the network has no batch normalisation with running statistics.
        """
        if not batch_norms(network):
            raise UserError(
                f"AdaBN finds no running statistics in this {type(network).__name__}: choose a network with batch "
                "normalisation, or leave AdaBN out (instance normalisation does per image what it does per domain)"
            )

    @contextmanager
    def forward_context(self, network: nn.Module, domain: str) -> Iterator[None]:
        """Let a source's forward pass leave the running statistics as they are."""
        if is_target(domain):
            yield
            return
        kept = [(layer, dict(layer._buffers)) for layer in batch_norms(network)]
        for layer, buffers in kept:
            # copies and not a changed momentum: the forward pass updates its buffers in place
            layer._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        try:
            yield
        finally:
            for layer, buffers in kept:
                layer._buffers.update(buffers)

    def losses(self, outputs: Mapping[str, Outputs], batch: Batch) -> dict[str, Tensor]:
        """No losses."""
        return {}
