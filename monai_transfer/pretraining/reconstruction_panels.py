"""TensorBoard pictures of masked-volume reconstruction: what was hidden, what the network says, and what it was."""

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor


class ReconstructionPanels:
    """Writes one picture per data set at the end of each epoch: seen, filled in and true, side by side.

    A handler of the trainer: the case is the last that it learnt from, so nothing is computed for the picture.

    Args:
        summary_writer: a TensorBoard writer.

    Example:
        >>> from unittest.mock import Mock
        >>> writer, image = Mock(), torch.rand(1, 1, 8, 8, 8)
        >>> batch = {"volumes_1": {"image": image, "label": torch.cat([image, image > 0.5], dim=1)}}
        >>> trainer = Engine(lambda engine, batch: {"pred": {"volumes_1": image}})
        >>> ReconstructionPanels(writer).attach(trainer)
        >>> _ = trainer.run([batch])
        >>> writer.add_image.call_args.args[0], writer.add_image.call_args.args[1].shape
        ('volumes_1/seen_filled_true', (1, 8, 24))
    """

    def __init__(self, summary_writer: Any) -> None:
        self.summary_writer = summary_writer

    def attach(self, engine: Engine) -> None:
        """Draw at the end of each epoch of the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Draw one picture of each data set."""
        for name, prediction in engine.state.output[Keys.PRED].items():
            case = engine.state.batch[name]
            image, label = _slice(case[Keys.IMAGE]), _slice(case[Keys.LABEL])
            hidden = _slice(case[Keys.LABEL], -1) > 0
            # what the network saw is not asked of it
            filled = torch.where(hidden, _slice(prediction).to(label), label)
            low, high = label.min(), label.max()
            planes = [((plane - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) for plane in (image, filled, label)]
            picture = torch.cat(planes, dim=-1)[None].cpu().numpy()
            self.summary_writer.add_image(f"{name}/seen_filled_true", picture, engine.state.iteration)


def _slice(volume: Tensor, channel: int = 0) -> Tensor:
    """The middle plane of the first case of ``(batch, C, x, y, z)``."""
    return torch.as_tensor(volume)[0, channel, ..., volume.shape[-1] // 2].detach().float().cpu()
