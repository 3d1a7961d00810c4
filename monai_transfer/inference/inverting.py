"""The long way back to the native grid, for preprocessing that mixes axes: MONAI's own inverse, class by class."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Invertd

from monai_transfer.inference.sinks import Sink


def restore_by_inverse(
    slabs: Iterable[tuple[int, torch.Tensor]],
    working: MetaTensor,
    *,
    order: Sequence[int],
    classes: int,
    transforms: Compose,
    key: str,
    nearest: bool,
    sink: Sink,
) -> None:
    """Gather the probabilities of the whole working grid, invert them class by class, and feed the sink.

    The native probabilities lie in a temporary file. This is what sheared grids and rotations take; memory grows
    with classes × working volume here.

    Args:
        slabs: (first slice, probabilities (n, C, rows, columns)).
        working: the preprocessed image with its trace.
        order: the working axes of slices, rows and columns.
        classes: number of classes.
        transforms: the preprocessing to invert.
        key: its key for the image.
        nearest: restore by nearest neighbour.
        sink: takes the native slices along the first native axis.
    """
    gathered = torch.zeros(classes, *(working.shape[1 + a] for a in order))
    for first, part in slabs:
        gathered[:, first : first + len(part)] = part.transpose(0, 1).cpu()
    gathered = gathered.permute(0, *(1 + order.index(a) for a in range(3)))
    undo = Invertd("pred", transform=transforms, orig_keys=key, nearest_interp=nearest)
    with tempfile.TemporaryDirectory() as folder:
        native: np.memmap | None = None
        for number in range(classes):
            restored = undo({"pred": MetaTensor(gathered[number : number + 1].contiguous()), key: working})["pred"][0]
            if native is None:
                name = Path(folder) / "probabilities"
                native = np.memmap(name, dtype=np.float32, mode="w+", shape=(classes, *restored.shape))
            native[number] = restored.cpu().numpy()
        assert native is not None
        _, slices, rows, columns = native.shape
        for index in range(slices):
            values = torch.from_numpy(np.array(native[:, index]))
            sink.take(index, slice(0, rows), slice(0, columns), range(classes), values)
        del native
