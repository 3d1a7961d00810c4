"""Keep frozen parameters exact in a running average of the weights."""

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_transfer.networks.levels import bare


class ExactFrozenAverage:
    """Ignite handler that copies frozen parameters into an averaged network at the end of every epoch.

    An exponential moving average of equal values rounds: without this, what is frozen would differ in its last bits in
    the network that is saved.

    Args:
        averaged_network: the average of the trainer's network, as ignite's ``EMAHandler`` keeps it in ``ema_model``.

    Example:
        >>> network, average = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> trainer = Engine(lambda engine, batch: None)
        >>> trainer.network = network.requires_grad_(False)
        >>> ExactFrozenAverage(average).attach(trainer)
        >>> _ = trainer.run([0])
        >>> bool(average.weight == network.weight)
        True
    """

    def __init__(self, averaged_network: nn.Module) -> None:
        self.averaged_network = averaged_network

    def attach(self, engine: Engine) -> None:
        """Register with a trainer that has a ``network``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._copy)

    def _copy(self, engine: Engine) -> None:
        averages = dict(bare(self.averaged_network).named_parameters())
        with torch.no_grad():
            for name, parameter in bare(engine.network).named_parameters():  # type: ignore[attr-defined]
                # m·w + (1 - m)·w is not w in floating point
                if not parameter.requires_grad:
                    averages[name].copy_(parameter)
