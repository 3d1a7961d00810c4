"""Measures how the target's organs look to the network, so that the source's can be painted alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn

from monai_transfer.transforms import ClassIntensities, IntensityProfile


class IntensityTransfer:
    """Renews :class:`~monai_transfer.transforms.ClassIntensities` from the network's view of the target's volumes.

    At the start of an epoch each volume is predicted, and the intensities of each predicted class are measured; the
    source's transform (:class:`~monai_transfer.transforms.RandClassIntensityd`) paints with them from then on. No label
    of the target is read. Predictions need be right on the whole only: what is taken from them is one intensity per
    class and volume, while every border comes from the source's labels.

    Args:
        network: predicts the target; a moving average is steadier than the network that learns.
        images: ``{"image": (channels, *spatial)}``, preprocessed as for inference.
        intensities: what the transform of the source holds.
        inferer: turns an image ``(1, channels, *spatial)`` and the network into logits.
        start: finished steps before the first measurement; ``None`` never measures.
        interval: epochs between measurements.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Sequence[Mapping[str, Any]],
        intensities: ClassIntensities,
        *,
        inferer: Callable[[Tensor, nn.Module], Any],
        start: int | None = 0,
        interval: int = 1,
    ) -> None:
        self.network = network
        self.images = images
        self.intensities = intensities
        self.inferer = inferer
        self.start = start
        self.interval = max(1, interval)

    def attach(self, engine: Engine) -> None:
        """Measure at the start of the epochs of the trainer ``engine``."""
        if self.start is not None:
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Measure if it is time."""
        due = not self.intensities.profiles or engine.state.epoch % self.interval == 0
        if self.start is not None and engine.state.iteration >= self.start and due:
            self.intensities.renew([self._profile(self.images[number]) for number in range(len(self.images))])

    @torch.no_grad()
    def _profile(self, item: Mapping[str, Any]) -> IntensityProfile:
        device = next(self.network.parameters()).device
        plain: Tensor = convert_to_tensor(item[Keys.IMAGE], track_meta=False, device=device)
        was_training = self.network.training
        self.network.eval()
        try:
            logits = self.inferer(plain[None], self.network)
        finally:
            self.network.train(was_training)
        return IntensityProfile.measure(plain, logits[0].float().softmax(0))
