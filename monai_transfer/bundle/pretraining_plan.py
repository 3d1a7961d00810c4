"""The choices of a pretraining."""

from typing import Annotated, Literal

import torch
from pydantic import Field, WithJsonSchema

from monai_transfer.bundle.networks import LIGHT_UNETS, MESHNETS, require_network
from monai_transfer.bundle.plan import split_into_epochs
from monai_transfer.errors import UserError
from monai_transfer.machine import require_precision
from monai_transfer.options import BatchSize, LearningRate, Minutes, Precision, Seed, Steps, validated

Recipe = Literal["shapes", "masked"]
Objective = Literal["contrast", "segmentation", "both"]
CubeLength = Annotated[int, Field(title="--length", ge=32, le=256, multiple_of=32)]

_EPOCH = 200
"""Steps between two pictures, and from one state of the training to the next at the earliest."""


@validated
class PretrainingPlan:
    """The choices of one pretraining.

    Attributes:
        device: where to train.
        recipe: random shapes in random contrasts, or volumes with hidden blocks.
        network: a name of :data:`monai_transfer.bundle.networks.NETWORKS`.
        objective: of shapes: features that name a shape whatever it is painted with (``contrast``), segmentation of the
            kinds of shapes, or both.
        steps: optimizer steps.
        minutes: ends the training earlier where the steps take longer.
        seed: seed of every random generator.
        batch_size: label maps per step, each in two appearances; or volumes per step of each folder.
        length: voxels along each axis of the largest volumes.
        learning_rate: peak learning rate.
        precision: of the network's passes; ``None`` takes the device's usual one.

    Example:
        >>> plan = PretrainingPlan(device=torch.device("cpu"), steps=450)
        >>> plan.epochs
        (2, 225)
    """

    device: Annotated[torch.device, WithJsonSchema({"type": "string"})]
    recipe: Recipe = "shapes"
    network: str = "unet"
    objective: Objective = "both"
    steps: Steps = 4000
    minutes: Minutes | None = None
    seed: Seed = 0
    batch_size: BatchSize = 2
    length: CubeLength = 64
    learning_rate: LearningRate = 2e-3
    precision: Precision | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown network, and a batch of one where it leaves batch normalisation a single voxel."""
        require_network(self.network)
        if self.precision is not None:
            require_precision(self.precision, self.device.type)
        # five halvings of a cube of 32 voxels; the light networks have four, MeshNet none
        deep = self.network not in (*LIGHT_UNETS, *MESHNETS)
        if deep and self.recipe == "shapes" and self.batch_size < 2:
            raise UserError(f"--batch-size 1 is too small for {self.network}, which normalises by the batch: give 2.")

    @property
    def epochs(self) -> tuple[int, int]:
        """Number of epochs and steps in each, which make up the steps as nearly as whole numbers can."""
        return split_into_epochs(self.steps, _EPOCH)
