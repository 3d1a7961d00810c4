"""Tiny trainings on random volumes with MONAI's own trainer."""

from collections.abc import Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.networks.nets import UNet
from torch import Tensor, nn


def small_unet(seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(3, 1, 2, (4, 8, 8), (2, 2), norm="batch")


def batches(count: int = 2, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.randn(2, 1, 16, 16, 16, generator=generator),
            "label": torch.randint(0, 2, (2, 16, 16, 16), generator=generator),
        }
        for _ in range(count)
    ]


def trainer(network: nn.Module, optimizer: Any, handlers: Sequence[Any], *, epochs: int = 3, loss: Any = None) -> Any:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=batches(),
        network=network,
        optimizer=optimizer,
        loss_function=loss or nn.CrossEntropyLoss(),
        train_handlers=list(handlers),
        decollate=False,
    )


class ScriptedScore(Metric):
    """A validation score that follows a script."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = iter(scores)
        super().__init__(output_transform=lambda output: (0, 0))

    def reset(self) -> None:
        pass

    def update(self, output: Any) -> None:
        pass

    def compute(self) -> float:
        return next(self.scores)


def validator(network: nn.Module, scores: Sequence[float]) -> Any:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=batches(1),
        network=network,
        key_val_metric={"dice": ScriptedScore(scores)},
        decollate=False,
    )


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def changed(network: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
