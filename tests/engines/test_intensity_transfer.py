"""The handler that measures how the target looks to the network."""

import torch
from ignite.engine import Engine
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from monai_transfer.engines import IntensityTransfer
from monai_transfer.transforms import ClassIntensities


class Thresholds(nn.Module):
    """Background below 1, class 1 to 3, class 2 above; notes its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.modes: list[bool] = []

    def forward(self, image: Tensor) -> Tensor:
        self.modes.append(self.training)
        classes = (image >= 1).long() + (image >= 3).long()
        return 20 * nn.functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float() * self.weight


def volume(organ: float) -> dict[str, Tensor]:
    image = torch.zeros(1, 6, 6, 6)
    image[:, :3] = 2.0
    image[:, 4:] = organ
    return {"image": image}


def run(handler: IntensityTransfer, *, epochs: int = 4, steps: int = 2) -> list[int]:
    """Run an engine and say how many profiles there were in each epoch."""
    found: list[int] = []
    engine = Engine(lambda engine, batch: found.append(len(handler.intensities.profiles)))
    handler.attach(engine)
    engine.run([0] * steps, max_epochs=epochs)
    return found[::steps]


def make(**options: object) -> IntensityTransfer:
    images = [volume(5.0), volume(7.0)]
    return IntensityTransfer(Thresholds(), images, ClassIntensities(), inferer=SimpleInferer(), **options)  # type: ignore[arg-type]


def test_measures_every_volume_from_the_start_on() -> None:
    handler = make(start=4)
    assert run(handler) == [0, 0, 2, 2]
    means = [profile.mean[1:, 0].tolist() for profile in handler.intensities.profiles]
    assert means == [[2.0, 5.0], [2.0, 7.0]]


def test_the_network_predicts_in_evaluation_mode_and_goes_on_as_it_was() -> None:
    handler = make()
    network = handler.network
    run(handler, epochs=1)
    assert network.training
    assert network.modes == [False, False]  # type: ignore[comparison-overlap]


def test_measures_again_at_each_interval() -> None:
    handler = make(interval=3)
    run(handler, epochs=6)
    assert len(handler.network.modes) == 2 * 3  # type: ignore[arg-type]  # epochs 1, 3 and 6


def test_none_never_measures() -> None:
    assert run(make(start=None)) == [0, 0, 0, 0]
