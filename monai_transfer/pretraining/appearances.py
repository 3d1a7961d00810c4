"""A random appearance of a label map: the contrast of no modality, and of all of them.

Each shape gets an intensity and a texture of its own; then come soft borders, a bias field, a coarser resolution along
one axis, a contrast curve and noise, and at the end one of the two ways in which the presets scale CT and MR. See
Billot et al., *SynthSeg*, Medical Image Analysis 2023, for painting label maps so. It is arithmetic on a whole batch on
one device, some hundred times as fast as transforms that go volume by volume.
"""

import random

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from monai_transfer.pretraining.noise import blur, smooth_noise, uniform, white_noise


def paint_shapes(shapes: Tensor, count: int, generator: Generator, choices: random.Random) -> Tensor:
    """Paint label maps.

    Args:
        shapes: ``(batch, 1, *spatial)``, the number of the shape at each voxel; 0 is air.
        count: numbers of shapes, all below this.
        generator: of all numbers, on the device of ``shapes``.
        choices: of what is alike for the whole batch.

    Returns:
        ``(batch, 1, *spatial)``, scaled as an image that a network of this package sees.

    Example:
        >>> shapes = torch.zeros(1, 1, 8, 8, 8, dtype=torch.long)
        >>> shapes[..., 4:] = 1
        >>> image = paint_shapes(shapes, 2, torch.Generator().manual_seed(0), random.Random(0))
        >>> image.shape, bool(image.isfinite().all())
        (torch.Size([1, 1, 8, 8, 8]), True)
    """
    batch, _, *size = shapes.shape
    # two thirds of all images have air that is nearly black
    dark = (uniform(0, 1, (batch, 1), generator) < 0.67) * 0.95
    means = uniform(0, 1, (batch, count), generator)
    means[:, :1] = means[:, :1] * (1 - dark)
    image = _look_up(means, shapes)
    image = blur(image, uniform(-0.5, 1.3, (batch,), generator))  # below 0 borders are sharp
    image = image + _texture(shapes, count, generator, choices)
    image = image * torch.exp(
        uniform(0, 0.4, (batch, 1, 1, 1, 1), generator) * smooth_noise(batch, 1, size, 4, generator)
    )
    if choices.random() < 0.4:
        image = _coarsen(image, axis=choices.randrange(3), factor=choices.choice((2, 3, 4)))
    image = _curve(image, generator)
    strength = 10 ** uniform(-2.5, -1.1, (batch, 1, 1, 1, 1), generator)
    return _scale(image + strength * white_noise(image.shape, generator), generator)


def _look_up(values: Tensor, shapes: Tensor) -> Tensor:
    """The value of each voxel's shape."""
    return values.gather(1, shapes.flatten(1)).reshape(shapes.shape)


def _texture(shapes: Tensor, count: int, generator: Generator, choices: random.Random) -> Tensor:
    """Grain of each shape's own strength, as fine as voxels in one part and as coarse as drawn in the other."""
    batch, _, *size = shapes.shape
    spread = uniform(0, 0.16, (batch, count), generator).square() * 6
    grain = 0.5 * white_noise(shapes.shape, generator)
    grain = grain + smooth_noise(batch, 1, size, choices.randint(5, max(6, min(size) // 2)), generator)
    return _look_up(spread, shapes) * grain


def _coarsen(image: Tensor, *, axis: int, factor: int) -> Tensor:
    """Thick slices along an axis: averaged, then interpolated back."""
    size = list(image.shape[2:])
    coarse = list(size)
    coarse[axis] = max(2, size[axis] // factor)
    thick = F.interpolate(image, size=coarse, mode="area")
    return F.interpolate(thick, size=size, mode="trilinear", align_corners=False)


def _curve(image: Tensor, generator: Generator) -> Tensor:
    """From 0 to 1 in each volume, then raised to a random power."""
    low, high = image.amin(dim=(1, 2, 3, 4), keepdim=True), image.amax(dim=(1, 2, 3, 4), keepdim=True)
    unit = ((image - low) / (high - low).clamp(min=1e-6)).clamp(1e-4, 1)
    return unit ** torch.exp(uniform(-0.6, 0.6, (image.shape[0], 1, 1, 1, 1), generator))


def _scale(image: Tensor, generator: Generator) -> Tensor:
    """In one half as the presets scale MR (by the foreground), in the other as they scale CT (a window to -1 … 1)."""
    batch, axes = image.shape[0], (1, 2, 3, 4)
    mean = image.mean(dim=axes, keepdim=True)
    bright = (image >= mean).to(image.dtype)
    weight = bright.sum(dim=axes, keepdim=True).clamp(min=1)
    centre = (image * bright).sum(dim=axes, keepdim=True) / weight
    spread = (((image - centre) * bright).square().sum(dim=axes, keepdim=True) / weight).sqrt().clamp(min=1e-3)
    standard = ((image - centre) / spread).clamp(-12, 6)
    deviation = image.std(dim=axes, keepdim=True).clamp(min=1e-3)
    reach = uniform(1.0, 3.0, (batch, 1, 1, 1, 1), generator)
    windowed = ((image - mean) / (reach * deviation)).clamp(-1, 1)
    return torch.where(uniform(0, 1, (batch, 1, 1, 1, 1), generator) < 0.5, standard, windowed)
