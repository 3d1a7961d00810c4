"""TensorBoard pictures of pretraining: shapes, two appearances and their features; what was hidden and filled in."""

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn import functional as F

from monai_transfer.networks import decoder_layers, tap
from monai_transfer.pretraining.loader import FIRST, SECOND, SHAPES, ShapeLoader


class ShapePanels:
    """Writes a row of pictures at the end of each epoch: shapes, and both appearances with their features below.

    The features are those of the finest level of the decoder, by their first three principal components as colours:
    what has one colour in both appearances is one thing to the network.

    Args:
        summary_writer: a TensorBoard writer.
        loader: whose first label map is shown, always the same one.
        network: the network to look into; its mode is restored.

    Example:
        >>> from unittest.mock import Mock
        >>> from monai.networks.nets import UNet
        >>> network, writer = UNet(3, 1, 6, (4, 8, 8), (2, 2)), Mock()
        >>> trainer = Engine(lambda engine, batch: None)
        >>> ShapePanels(writer, ShapeLoader(steps=1, length=32), network).attach(trainer)
        >>> _ = trainer.run([0])
        >>> writer.add_image.call_args.args[1].shape
        (3, 64, 96)
    """

    def __init__(self, summary_writer: Any, loader: ShapeLoader, network: nn.Module) -> None:
        self.summary_writer = summary_writer
        self.loader = loader
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Draw at the end of each epoch of the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Draw one picture."""
        batch = self.loader.batch(0)
        middle = batch[FIRST][SHAPES].shape[-1] // 2
        images, features = [], []
        was_training = self.network.training
        self.network.eval()
        with tap(self.network, decoder_layers(self.network)[-1]) as tapped:
            for view in (FIRST, SECOND):
                image = batch[view][Keys.IMAGE][:1]
                self.network(image)
                finest = F.interpolate(tapped[0].float(), size=image.shape[2:])
                images.append(image[0, 0, ..., middle])
                features.append(finest[0, ..., middle])
        self.network.train(was_training)
        kinds = batch[FIRST][SHAPES][0, 0, ..., middle].float()
        top = torch.cat([_grey(kinds), *(_grey(image) for image in images)], dim=-1)
        below = torch.cat([_grey(batch[FIRST][Keys.LABEL][0, 0, ..., middle].float()), *_colours(features)], dim=-1)
        picture = torch.cat([top, below], dim=-2).cpu().numpy()
        self.summary_writer.add_image("shapes/appearances_and_features", picture, engine.state.iteration)


def _grey(plane: Tensor) -> Tensor:
    """``(x, y)`` -> ``(3, x, y)`` from 0 to 1."""
    low, high = plane.min(), plane.max()
    return ((plane - low) / (high - low).clamp(min=1e-6)).expand(3, *plane.shape)


def _colours(features: list[Tensor]) -> list[Tensor]:
    """The first three principal components, common to both planes ``(channels, x, y)``, as colours."""
    flat = torch.cat([plane.flatten(1) for plane in features], dim=1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    _, vectors = torch.linalg.eigh(centred @ centred.T)
    scores = vectors[:, -3:].T @ centred
    low, high = torch.quantile(scores, 0.02, dim=1), torch.quantile(scores, 0.98, dim=1)
    unit = ((scores - low[:, None]) / (high - low).clamp(min=1e-6)[:, None]).clamp(0, 1)
    return [part.reshape(3, *features[0].shape[1:]) for part in unit.chunk(2, dim=1)]


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
