"""A running average of the weights: frozen parameters stay exact in it, and it may end on the way back to its start."""

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.networks.levels import bare
from monai_transfer.weights.report import LoadReport


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


class AverageWithStart:
    r"""Ignite handler that brings an averaged network part of the way back to its start once training is over.

    .. math::
        w = (1 - \lambda)\, w_{end} + \lambda\, w_{start}

    for every weight that was pretrained; the others, such as a new head, stay as they were learnt. What a network
    learns from one domain alone costs some of what its start knew of all others, and on the way back much of that
    returns before the new task is lost. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (WiSE-FT).

    Args:
        averaged_network: the average of the trainer's network, as ignite's ``EMAHandler`` keeps it in ``ema_model``.
            Its values when this object is made are the start.
        report: the load report, which says what was pretrained.
        share: :math:`\lambda`, in [0, 1].

    Raises:
        UserError: the share is out of range.

    Example:
        >>> from types import SimpleNamespace
        >>> average = nn.Linear(1, 1)
        >>> start = average.weight.item()
        >>> trainer = Engine(lambda engine, batch: [nn.init.constant_(value, 3.0) for value in average.parameters()])
        >>> AverageWithStart(average, SimpleNamespace(loaded_names=["weight"]), share=0.5).attach(trainer)
        >>> _ = trainer.run([0])
        >>> round(average.weight.item() - (3 + start) / 2, 6), average.bias.item()
        (0.0, 3.0)
    """

    def __init__(self, averaged_network: nn.Module, report: LoadReport, *, share: float = 0.5) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"AverageWithStart: share ({share}) must be in [0, 1].")
        self.averaged_network = averaged_network
        self.share = share
        state = bare(averaged_network).state_dict()
        self.start = {name: state[name].clone() for name in report.loaded_names if state[name].is_floating_point()}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; handlers that save the network when it ends come after this one."""
        engine.add_event_handler(Events.COMPLETED, self._go_back)

    def _go_back(self, engine: Engine) -> None:
        state = bare(self.averaged_network).state_dict()
        for name, start in self.start.items():
            state[name].lerp_(start.to(state[name].device), self.share)
