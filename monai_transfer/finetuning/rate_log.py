"""Say in each epoch which levels train, and at which learning rate."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from monai_transfer.files import write_text
from monai_transfer.networks.levels import bare, network_levels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LevelRate:
    """One level in one epoch.

    Attributes:
        level: its name.
        learning_rate: of its optimizer group, 0 where it is frozen or in no group.
        trainable: number of values that train.
        parameters: number of values in all.

    Example:
        >>> rate = LevelRate(level="stem", learning_rate=0.0, trainable=0, parameters=432)
        >>> rate.trainable == 0  # frozen
        True
    """

    level: str
    learning_rate: float
    trainable: int
    parameters: int


class LearningRateLog:
    """Ignite handler that logs each level's learning rate at the first iteration of every epoch.

    The log has a line per epoch; TensorBoard gets ``learning_rate/LEVEL`` (0 while frozen) and
    ``trainable_parameters``. Only the first process writes.

    Args:
        log_dir: folder for TensorBoard; none is written without it or a writer.
        summary_writer: a writer to share with other handlers.
        path: a ``.jsonl`` file that gets a line per epoch: ``{"epoch": int, "levels": {LEVEL: learning rate}}``.

    Example:
        >>> import torch
        >>> from monai.networks.nets import UNet
        >>> network = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2))
        >>> trainer = Engine(lambda engine, batch: None)
        >>> trainer.network, trainer.optimizer = network, torch.optim.SGD(network.parameters(), lr=0.1)
        >>> log = LearningRateLog()
        >>> log.attach(trainer)
        >>> _ = trainer.run([0], max_epochs=1)
        >>> [(rate.level, rate.learning_rate) for rate in log.history[0][1]]
        [('stem', 0.1), ('level1', 0.1), ('level2', 0.1), ('decoder', 0.1), ('head', 0.1)]
    """

    def __init__(
        self,
        *,
        log_dir: str | Path | None = None,
        summary_writer: SummaryWriter | None = None,
        path: str | Path | None = None,
    ) -> None:
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.path = None if path is None else Path(path)
        self.summary_writer = summary_writer
        self.history: list[tuple[int, tuple[LevelRate, ...]]] = []
        self._owned: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer that has a ``network`` and an ``optimizer``."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._on_iteration)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: Engine) -> None:
        if self.path is not None and idist.get_rank() == 0:
            # a training that goes on may have come further before it was cut off: those epochs are done again
            text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
            whole = [line + "\n" for line in text.split("\n")[:-1]]
            write_text(self.path, "".join(whole[: engine.state.epoch]))

    def _on_iteration(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if self.history and self.history[-1][0] == epoch:
            return
        rates = level_rates(engine)
        self.history.append((epoch, rates))
        # every process keeps the history, one of them writes
        if idist.get_rank() > 0:
            return
        logger.info("Epoch %d trains %s.", epoch, _sentence(rates))
        if self.path is not None:
            self._append(epoch, rates)
        writer = self._writer()
        if writer is not None:
            for rate in rates:
                writer.add_scalar(f"learning_rate/{rate.level}", rate.learning_rate, epoch)
            writer.add_scalar("trainable_parameters", sum(rate.trainable for rate in rates), epoch)
            writer.flush()

    def _append(self, epoch: int, rates: tuple[LevelRate, ...]) -> None:
        line = {"epoch": epoch, "levels": {rate.level: rate.learning_rate for rate in rates}}
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _writer(self) -> SummaryWriter | None:
        if self.summary_writer is not None:
            return self.summary_writer
        if self._owned is None and self.log_dir is not None:
            self._owned = SummaryWriter(str(self.log_dir))  # type: ignore[no-untyped-call]
        return self._owned

    def _close(self, engine: Engine) -> None:
        if self._owned is not None:
            self._owned.close()  # type: ignore[no-untyped-call]
            self._owned = None


def level_rates(trainer: Any) -> tuple[LevelRate, ...]:
    """Return the learning rate of every level of a trainer's network as things stand."""
    network = bare(trainer.network)
    rate_of = {id(parameter): group["lr"] for group in trainer.optimizer.param_groups for parameter in group["params"]}
    parameters = dict(network.named_parameters())
    rates = []
    for level, names in network_levels(network).items():
        members = [parameters[name] for name in names if name in parameters]
        training = [member for member in members if member.requires_grad and id(member) in rate_of]
        rates.append(
            LevelRate(
                level=level,
                learning_rate=max((float(rate_of[id(member)]) for member in training), default=0.0),
                trainable=sum(member.numel() for member in training),
                parameters=sum(member.numel() for member in members),
            )
        )
    return tuple(rates)


def _sentence(rates: tuple[LevelRate, ...]) -> str:
    training = ", ".join(f"{rate.level} at {rate.learning_rate:.3g}" for rate in rates if rate.trainable)
    frozen = ", ".join(rate.level for rate in rates if not rate.trainable)
    return (training or "nothing") + (f"; {frozen} frozen" if frozen else "")
