"""Gradual unfreezing: from the head towards the input, by epochs or when the validation score stands still."""

import logging
import math
from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer

from monai_transfer.errors import UserError
from monai_transfer.finetuning.freezing import freeze, unfreeze
from monai_transfer.networks.levels import DECODER, HEAD, bare, encoder_levels, names_of, network_levels

logger = logging.getLogger(__name__)


class GradualUnfreezing:
    """Ignite handler that starts with the encoder frozen and frees one level after the other.

    By schedule: ``epochs=5`` frees a level every five epochs, ``epochs=[3, 6, 7]`` one at the start of each of these
    epochs (counted from 1). By plateau: a level is freed when the score of ``validator`` has not risen by more than
    ``min_delta`` for ``patience`` validations. With both, whichever comes first.

    The optimizer must hold all levels from the start (see :func:`parameter_groups`): frozen parameters have no
    gradient, so it leaves them bitwise as they are. ``state_dict`` holds plain numbers.

    Howard and Ruder, "Universal language model fine-tuning for text classification", ACL 2018.

    Args:
        epochs: when levels are freed, or None.
        patience: validations without improvement before a level is freed, or None.
        validator: the evaluator whose key metric is watched; needed with ``patience``.
        order: levels in the order in which they are freed; by default the encoder's, deepest first.
        initial: levels that train from the start; by default all that are not in ``order``.
        frozen: levels that are never freed, as in :func:`freeze`.
        min_delta: smallest rise of the score that counts.

    Raises:
        UserError: neither ``epochs`` nor ``patience`` is given, or (when training starts) a level is unknown or the
            optimizer lacks its parameters.

    Example:
        >>> import torch
        >>> from monai.networks.nets import UNet
        >>> network = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2))
        >>> trainer = Engine(lambda engine, batch: None)
        >>> trainer.network, trainer.optimizer = network, torch.optim.SGD(network.parameters(), lr=0.1)
        >>> unfreezing = GradualUnfreezing(epochs=1)
        >>> unfreezing.attach(trainer)
        >>> _ = trainer.run([0], max_epochs=2)
        >>> unfreezing.levels(), unfreezing.training_levels()
        (('level2', 'level1', 'stem'), ('decoder', 'head', 'level2'))
    """

    def __init__(
        self,
        *,
        epochs: int | Sequence[int] | None = None,
        patience: int | None = None,
        validator: Engine | None = None,
        order: Sequence[str] | None = None,
        initial: Sequence[str] | None = None,
        frozen: Sequence[str] = (),
        min_delta: float = 0.0,
    ) -> None:
        if epochs is None and patience is None:
            raise UserError("GradualUnfreezing needs epochs (a schedule) or patience (a plateau), or both.")
        if patience is not None and (patience < 1 or validator is None):
            raise UserError(
                "GradualUnfreezing: patience must be at least 1 and needs the validator whose score it sees."
            )
        if isinstance(epochs, int) and epochs < 1:
            raise UserError("GradualUnfreezing: epochs must be at least 1.")
        self.epochs, self.patience, self.validator = epochs, patience, validator
        self.order = None if order is None else tuple(order)
        self.initial = None if initial is None else tuple(initial)
        self.frozen = tuple(frozen)
        self.min_delta = min_delta
        self.freed = 0
        # below any score, so that the first validation is an improvement
        self.best = -math.inf
        self.waited = 0
        self._trainer: Any = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer that has a ``network`` and an ``optimizer``, and with the validator."""
        self._trainer = engine
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._on_epoch)
        if self.validator is not None and self.patience is not None:
            self.validator.add_event_handler(Events.COMPLETED, self._on_validation)

    def levels(self) -> tuple[str, ...]:
        """Return the levels that are freed one by one, in order."""
        network = self._trainer.network
        order = self.order if self.order is not None else encoder_levels(network)[::-1]
        return tuple(level for level in order if level not in self._never())

    def training_levels(self) -> tuple[str, ...]:
        """Return the levels that train now."""
        order = self.levels()
        known = tuple(network_levels(self._trainer.network))
        initial = self.initial if self.initial is not None else tuple(level for level in known if level not in order)
        return (*(level for level in initial if level not in self._never()), *order[: self.freed])

    def _never(self) -> set[str]:
        network = self._trainer.network
        never = set(self.frozen)
        return never | set(encoder_levels(network)) if "encoder" in never else never

    def state_dict(self) -> dict[str, float | int]:
        """Return the number of freed levels, the best score and the validations since, as plain numbers."""
        return {"freed": self.freed, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, float | int]) -> None:
        """Go on from :meth:`state_dict`."""
        self.freed = int(state_dict["freed"])
        self.best = float(state_dict["best"])
        self.waited = int(state_dict["waited"])
        if self._trainer is not None:
            self._apply()

    def _start(self, engine: Engine) -> None:
        network, order = self._trainer.network, self.levels()
        if isinstance(network, nn.parallel.DistributedDataParallel) and not network.find_unused_parameters:
            raise UserError(
                "GradualUnfreezing needs DistributedDataParallel(network, find_unused_parameters=True), and a network "
                "that was not frozen before it was wrapped."
            )
        _check_optimizer(network, self._trainer.optimizer, (*self.training_levels(), *order))
        if not set(order) - {DECODER, HEAD}:
            logger.warning("Gradual unfreezing has no encoder level to free.")
        self._apply()

    def _on_epoch(self, engine: Engine) -> None:
        if self.epochs is None:
            return
        epoch, count = engine.state.epoch, len(self.levels())
        if isinstance(self.epochs, int):
            due = (epoch - 1) // self.epochs
        else:
            due = sum(epoch >= when for when in self.epochs)
        self._free(min(due, count), f"epoch {epoch} of the schedule")

    def _on_validation(self, validator: Engine) -> None:
        score = _key_score(validator)
        if score > self.best + self.min_delta:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            self.waited = 0
            self._free(min(self.freed + 1, len(self.levels())), f"no gain over {self.best:.4f}")

    def _free(self, count: int, reason: str) -> None:
        if count <= self.freed:
            return
        new = self.levels()[self.freed : count]
        self.freed = count
        logger.info("Unfreezing %s (%s).", ", ".join(new), reason)
        self._apply()

    def _apply(self) -> None:
        network, training = self._trainer.network, self.training_levels()
        freeze(network, [level for level in network_levels(network) if level not in training])
        unfreeze(network, training)


def _key_score(validator: Engine) -> float:
    key = getattr(validator.state, "key_metric_name", None)
    if not key or key not in validator.state.metrics:
        raise UserError("GradualUnfreezing: the validator has no key metric; give it key_val_metric.")
    return float(validator.state.metrics[key])


def _check_optimizer(network: nn.Module, optimizer: Optimizer, levels: Sequence[str]) -> None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    wanted = names_of(network, levels)
    for name, parameter in bare(network).named_parameters():
        if name in wanted and id(parameter) not in held:
            raise UserError(
                f"The optimizer does not hold {name}, which is to be unfrozen: build it from "
                "parameter_groups(network, learning_rate=…), which holds frozen levels too."
            )
