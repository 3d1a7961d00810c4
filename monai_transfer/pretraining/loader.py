"""An endless data set of random shapes, made on the device that trains."""

import random
from collections.abc import Iterator, Mapping

import torch
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.pretraining.appearances import paint_shapes
from monai_transfer.pretraining.shapes import MOST_SHAPES, draw_shapes

FIRST = "first"
"""One appearance of a label map, as a domain of a batch."""

SECOND = "second"
"""The other."""

SHAPES = "shapes"
"""Key of the map of shapes, each with a number of its own."""


class ShapeLoader:
    """Yields ``{"first": …, "second": …}``: the same label maps in two appearances.

    A step's batch is a function of ``(seed, epoch, step)`` alone, so a training that was cut off goes on with the same
    pictures. Volumes of a step are cubes of the full, three quarters or half of the length, because the windows of
    small organs are small as well.

    Args:
        steps: batches per epoch.
        batch_size: label maps per batch.
        length: voxels along each axis of the largest cubes, a multiple of 32.
        seed: seed of everything.
        device: where the volumes are made.

    Example:
        >>> loader = ShapeLoader(steps=1, batch_size=2, length=32)
        >>> batch = next(iter(loader))
        >>> sorted(batch), [str(key) for key in sorted(batch["first"])], batch["first"]["image"].shape[0]
        (['first', 'second'], ['image', 'label', 'shapes'], 2)
    """

    def __init__(
        self, *, steps: int, batch_size: int = 2, length: int = 64, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.steps = steps
        self.batch_size = batch_size
        # 32 is the least that a ResNet's five halvings leave a voxel of
        self.lengths = sorted({max(32, length * part // 4 // 32 * 32) for part in (2, 3, 4)})
        self.seed = seed
        self.device = torch.device(device)
        self.epoch = 0

    def __len__(self) -> int:
        """Steps in one epoch."""
        return self.steps

    def __iter__(self) -> Iterator[dict[str, dict[str, Tensor]]]:
        """Run one epoch and move on to the next."""
        epoch = self.epoch
        self.epoch += 1
        for step in range(self.steps):
            yield self.batch(epoch * self.steps + step)

    @torch.no_grad()
    def batch(self, number: int) -> dict[str, dict[str, Tensor]]:
        """The batch of one step, counted from 0 over all epochs."""
        choices = random.Random(self.seed * 1_000_003 + number)
        generator = torch.Generator(self.device).manual_seed(choices.getrandbits(63))
        length = choices.choice(self.lengths)
        shapes, kinds = draw_shapes(self.batch_size, (length,) * 3, generator, choices)
        return {
            view: {Keys.IMAGE: paint_shapes(shapes, MOST_SHAPES, generator, choices), Keys.LABEL: kinds, SHAPES: shapes}
            for view in (FIRST, SECOND)
        }

    def state_dict(self) -> dict[str, int]:
        """The position in the sequence of epochs."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a saved position."""
        self.epoch = int(state["epoch"])
