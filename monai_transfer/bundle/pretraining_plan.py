"""The choices of a pretraining, and the configurations that say them."""

from typing import Annotated, Literal

import torch
from pydantic import Field, WithJsonSchema

from monai_transfer.bundle.configs import Configs, template_config
from monai_transfer.bundle.networks import network_definition, require_network
from monai_transfer.bundle.plan import split_into_epochs
from monai_transfer.options import BatchSize, LearningRate, Seed, Steps, validated

Recipe = Literal["shapes"]
Objective = Literal["contrast", "segmentation", "both"]
Minutes = Annotated[float, Field(title="--minutes", gt=0, le=100_000)]
CubeLength = Annotated[int, Field(title="--length", ge=32, le=256, multiple_of=32)]

_EPOCH = 200
"""Steps between two pictures, and from one state of the training to the next at the earliest."""


@validated
class PretrainingPlan:
    """The choices of one pretraining.

    Attributes:
        device: where to train.
        network: a name of :data:`monai_transfer.bundle.networks.NETWORKS`.
        objective: features that name a shape whatever it is painted with, segmentation of the kinds of shapes, or both.
        steps: optimizer steps.
        minutes: ends the training earlier where the steps take longer.
        seed: seed of every random generator.
        batch_size: label maps per step, each in two appearances.
        length: voxels along each axis of the largest volumes.
        learning_rate: peak learning rate.

    Example:
        >>> plan = PretrainingPlan(device=torch.device("cpu"), steps=450)
        >>> plan.epochs
        (2, 225)
    """

    device: Annotated[torch.device, WithJsonSchema({"type": "string"})]
    network: str = "unet"
    objective: Objective = "both"
    steps: Steps = 4000
    minutes: Minutes | None = None
    seed: Seed = 0
    batch_size: BatchSize = 2
    length: CubeLength = 64
    learning_rate: LearningRate = 2e-3

    def __post_init__(self) -> None:
        """Refuse an unknown network."""
        require_network(self.network)

    @property
    def epochs(self) -> tuple[int, int]:
        """Number of epochs and steps in each, which make up the steps as nearly as whole numbers can."""
        return split_into_epochs(self.steps, _EPOCH)


def pretraining_configs(plan: PretrainingPlan, kinds: tuple[str, ...]) -> Configs:
    """``train.json`` of a plan.

    Args:
        plan: the choices.
        kinds: names of the classes that are segmented.
    """
    epochs, steps = plan.epochs
    train = template_config("pretraining", "train")
    changes = {
        "network_def": network_definition(plan.network, classes=len(kinds)),
        "seed": plan.seed,
        "length": plan.length,
        "max_epochs": epochs,
        "steps_per_epoch": steps,
        "minutes": plan.minutes,
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
        "contrast_weight": float(plan.objective != "segmentation"),
        "segmentation_weight": float(plan.objective != "contrast"),
    }
    return {"train": {**train, **changes}}
