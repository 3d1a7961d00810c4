"""The options of a training, checked before its data are read and before anything that takes seconds is imported."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from monai_transfer.bundle.networks import require_network
from monai_transfer.errors import UserError
from monai_transfer.machine import require_device
from monai_transfer.options import (
    BatchSize,
    ChannelDropout,
    Hounsfield,
    LearningRate,
    Minutes,
    Seed,
    Spacing,
    Steps,
    validated,
)


@validated
class PlanOptions:
    """The options of a training that can be checked before its data are read; ``None`` leaves the planned value.

    Attributes:
        spacing: working grid in mm, one number per axis.
        window: HU that become -1 and 1, the lower first; CT only.
        network: a name of :data:`monai_transfer.bundle.networks.NETWORKS`.
        steps: optimizer steps.
        minutes: time of all trainings together, which decides grid and steps (``train`` and ``adapt``).
        learning_rate: peak learning rate.
        batch_size: cases per domain and step.
        channel_dropout: share of the training images of several channels that lose some of them.
        seed: seed of every random generator.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Example:
        >>> PlanOptions(steps=40, device="cpu").given
        {'steps': 40, 'device': 'cpu'}
    """

    spacing: tuple[Spacing, Spacing, Spacing] | None = None
    window: tuple[Hounsfield, Hounsfield] | None = None
    network: str | None = None
    steps: Steps | None = None
    minutes: Minutes | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    channel_dropout: ChannelDropout | None = None
    seed: Seed | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse an unknown network or device, a window upside down, and steps beside the time that decides them."""
        if self.steps is not None and self.minutes is not None:
            raise UserError("--steps is decided by --minutes: give one of them.")
        if self.network is not None:
            require_network(self.network)
        if self.window is not None:
            require_order(self.window)
        require_device(self.device)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are set, as the planning functions take them; these are given the time apart."""
        return {name: value for name, value in asdict(self).items() if value is not None and name != "minutes"}


def require_order(window: Sequence[float]) -> None:
    """Refuse a window of intensities that is upside down."""
    if window[0] >= window[1]:
        raise UserError(f"--window {window} is not possible: the first HU value has to be the lower one.")
