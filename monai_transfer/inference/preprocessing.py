"""A bundle's own preprocessing, with the slow parts done faster and to the same result."""

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd, Spacingd, Transform

from monai_transfer.errors import UserError
from monai_transfer.inference.resampling import spacing
from monai_transfer.volumes.reading import Volume


def preprocess(volume: Volume, transforms: Compose, *, key: str, device: torch.device | str = "cpu") -> MetaTensor:
    """Bring a volume onto the working grid.

    The bundle's transforms run one after another; only ``LoadImaged`` and ``EnsureChannelFirstd`` are left out (the
    volume is already read) and ``Spacingd`` with linear or nearest interpolation along the axes is computed plane by
    plane from the file's own number type. Everything else, and everything in a ``Compose`` that is lazy, is MONAI's.

    Args:
        volume: the image.
        transforms: the bundle's ``preprocessing``.
        key: under which the transforms find the image.
        device: where they run.

    Returns:
        the image (C, *working shape), with the trace that leads back.

    Raises:
        UserError: when the transforms leave nothing of the image.
    """
    steps = list(transforms.flatten().transforms)
    if isinstance(steps[0], LoadImaged):
        steps = [s for s in steps[1:] if not isinstance(s, EnsureChannelFirstd)]  # the channels are first already
    integers = not transforms.lazy and _resamples_first(steps)
    data: dict = {key: volume.tensor(keep_integers=integers, device=device)}
    if transforms.lazy:
        data = Compose(steps, lazy=transforms.lazy)(data)
    else:
        for step in steps:
            data = spacing(data, step) if isinstance(step, Spacingd) else step(data)  # type: ignore[operator]
    image = data[key]
    if 0 in image.shape:
        raise UserError(f"{volume.path} is empty after the bundle's preprocessing; is it an image of the right kind?")
    return image


def _resamples_first(steps: list[Transform]) -> bool:
    """Whether only transforms that move voxels about come before the resampling, so that integers may stay integers."""
    for step in steps:
        if isinstance(step, Spacingd):
            return True
        typed = isinstance(step, EnsureTyped) and step.converter.dtype is None
        if not typed and not isinstance(step, Orientationd):
            return False
    return False
