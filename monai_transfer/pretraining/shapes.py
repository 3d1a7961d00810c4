"""Label maps of random shapes: what anatomy looks like when nobody has seen any.

A volume is first divided: into cells around random points, into a deformed chequered grid, into the organs of a
phantom's torso, or not at all; outside of a body there is air. Then shapes are put on top, large ones first:
ellipsoids, boxes, bent tubes, shells and clusters of spots, each of which covers what lies below; on a torso only the
small ones. Everything lives in coordinates that random smooth fields have deformed, so that no border is straight. All
of it is arithmetic on tensors of a whole batch on one device; the kind of the shape at each place of the pile is drawn
once for the batch, its form for each volume.
"""

import random
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from monai_transfer.phantoms import Tissue
from monai_transfer.pretraining.noise import smooth_noise, uniform
from monai_transfer.pretraining.torsos import KIND_OF_TISSUE, PEOPLE, TISSUES, torsos_at

KINDS = ("background", "ellipsoid", "box", "tube", "shell", "cluster", "organ")
"""What a class of the segmentation task means."""

_CELLS = 12
_PARTS = max(_CELLS, TISSUES - 1)
_PILE = 26
MOST_SHAPES = 1 + _PARTS + _PILE
"""Numbers of shapes in a label map: air, the parts of the background (cells, or tissues), and the pile."""

# half the length of a shape where the volume reaches from -1 to 1: from a whole organ to a few voxels
_LARGEST, _SMALLEST = 0.65, 0.05

_TORSOS = 0.2
"""Share of the batches that show torsos."""


def draw_shapes(batch: int, size: Sequence[int], generator: Generator, choices: random.Random) -> tuple[Tensor, Tensor]:
    """Draw label maps.

    Args:
        batch: number of volumes.
        size: voxels along the three axes.
        generator: of all numbers; its device is where the maps are made.
        choices: of what is alike for the whole batch.

    Returns:
        The number of the shape at each voxel, below :data:`MOST_SHAPES` and 0 in air, and its kind, an index of
        :data:`KINDS`; both ``(batch, 1, *size)`` of 64-bit integers.

    Example:
        >>> shapes, kinds = draw_shapes(2, (16, 16, 16), torch.Generator().manual_seed(0), random.Random(0))
        >>> shapes.shape, bool((kinds[shapes == 0] == 0).all()), int(kinds.max()) < len(KINDS)
        (torch.Size([2, 1, 16, 16, 16]), True, True)
    """
    axes = [torch.linspace(-1, 1, length, device=generator.device) for length in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    places = [grid + _displacement(batch, size, generator) for _ in range(2)]
    if choices.random() < _TORSOS:
        shapes, kinds = _torsos(places[0], generator, choices)
        # the large half of the pile would bury the organs
        body, pile = shapes > 0, range(_PILE // 2, _PILE)
    else:
        shapes = _divide(places[0], generator, choices)
        kinds = torch.zeros_like(shapes)
        body, pile = _body(places[1], generator), range(_PILE)
    fullness = uniform(0.3, 1.0, (batch, 1, 1, 1), generator)
    for place in pile:
        kind = choices.choice(tuple(_INSIDE))
        inside = _INSIDE[kind](places[place % 2], _scale(place, generator, batch), generator)
        inside &= body & (uniform(0, 1, (batch, 1, 1, 1), generator) < fullness)
        shapes = torch.where(inside, 1 + _PARTS + place, shapes)
        kinds = torch.where(inside, KINDS.index(kind), kinds)
    return (shapes * body)[:, None], kinds[:, None]


def _displacement(batch: int, size: Sequence[int], generator: Generator) -> Tensor:
    """Large bends, small bends and rough borders: each scale with a strength of its own in every volume."""
    total = torch.zeros(batch, 3, *size, device=generator.device)
    for cells, most in ((4, 0.18), (9, 0.07), (24, 0.02)):
        strength = uniform(0, most, (batch, 1, 1, 1, 1), generator)
        total = total + strength * smooth_noise(batch, 3, size, cells, generator)
    return total


def _body(place: Tensor, generator: Generator) -> Tensor:
    """Half of all volumes show a body in air, the others lie within one, as windows of a large volume do."""
    batch = place.shape[0]
    body = _solid(_local(place, (0.75, 1.3), 0.15, generator), 2.0) < 0
    return body | (uniform(0, 1, (batch, 1, 1, 1), generator) < 0.5)


def _torsos(place: Tensor, generator: Generator, choices: random.Random) -> tuple[Tensor, Tensor]:
    """Tissues and their kinds, each ``(batch, *size)``; a volume shows a whole torso, or half of its length."""
    batch = place.shape[0]
    zoom = uniform(0.9, 2.0, (batch, 1, 1, 1, 1), generator)
    local = _local(place, (0.9, 1.1), 0.5, generator) / zoom
    tissues = torsos_at(local, [choices.randrange(PEOPLE) for _ in range(batch)])
    kinds = [KINDS.index(KIND_OF_TISSUE.get(Tissue(tissue), "background")) for tissue in range(TISSUES)]
    return tissues, torch.tensor(kinds, device=place.device)[tissues]


def _divide(place: Tensor, generator: Generator, choices: random.Random) -> Tensor:
    """Parts of the background, numbered from 1, ``(batch, *size)``."""
    batch = place.shape[0]
    how = choices.choice(("cells", "cells", "grid", "whole"))
    if how == "grid":
        period = uniform(2.0, 6.0, (batch, 3, 1, 1, 1), generator)
        return 1 + torch.floor(place * period).long().sum(dim=1) % 2
    if how == "whole":
        return torch.ones_like(place[:, 0], dtype=torch.long)
    nearest = torch.full_like(place[:, 0], float("inf"))
    parts = torch.zeros_like(nearest, dtype=torch.long)
    for number in range(choices.randint(2, _CELLS)):
        point = uniform(-1, 1, (batch, 3, 1, 1, 1), generator)
        distance = (place - point).square().sum(dim=1)
        closer = distance < nearest
        nearest = torch.where(closer, distance, nearest)
        parts = torch.where(closer, number, parts)
    return 1 + parts


def _scale(place: int, generator: Generator, batch: int) -> Tensor:
    """Half the length of the shape at this place of the pile, falling from the largest to the smallest."""
    mean = _LARGEST * (_SMALLEST / _LARGEST) ** (place / (_PILE - 1))
    scale: Tensor = mean * torch.exp(uniform(-0.4, 0.4, (batch, 1, 1, 1, 1), generator))
    return scale


def _local(place: Tensor, lengths: tuple[float, float], spread: float, generator: Generator) -> Tensor:
    """Coordinates in which a shape that was shifted, turned and stretched is a unit ball.

    Args:
        place: ``(batch, 3, *size)``.
        lengths: range of the half axes.
        spread: farthest centre along an axis.
        generator: of shift, turn and stretch.
    """
    batch = place.shape[0]
    centre = uniform(-spread, spread, (batch, 3, 1, 1, 1), generator)
    # the first two columns of a random matrix, made orthogonal; the third is their product
    first, second = (_unit(uniform(-1, 1, (batch, 3), generator)) for _ in range(2))
    second = _unit(second - (first * second).sum(dim=1, keepdim=True) * first)
    turn = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
    half = uniform(*lengths, (batch, 3, 1, 1, 1), generator)
    # a matrix product in half precision would be a visible staircase: this is never under autocast
    turned: Tensor = torch.einsum("bij,bjxyz->bixyz", turn, place - centre)
    return turned / half


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return unit


def _solid(local: Tensor, power: float) -> Tensor:
    """Below 0 inside of a superquadric: power 2 is an ellipsoid, a large power a box."""
    level: Tensor = local.abs().pow(power).sum(dim=1) - 1
    return level


def _ellipsoid(place: Tensor, scale: Tensor, generator: Generator) -> Tensor:
    return _solid(_local(place, (0.5, 1.2), 0.9, generator) / scale, 2.0) < 0


def _box(place: Tensor, scale: Tensor, generator: Generator) -> Tensor:
    return _solid(_local(place, (0.4, 1.0), 0.9, generator) / scale, 8.0) < 0


def _tube(place: Tensor, scale: Tensor, generator: Generator) -> Tensor:
    """A cylinder whose axis is a sine, as long as eight to forty times its radius."""
    batch = place.shape[0]
    local = _local(place, (0.9, 1.1), 0.7, generator)
    along, across = local[:, 0], local[:, 1:]
    phase = uniform(0, 6.28, (batch, 2, 1, 1, 1), generator)
    bend = uniform(0, 0.25, (batch, 2, 1, 1, 1), generator)
    wave = uniform(1.0, 6.0, (batch, 2, 1, 1, 1), generator)
    across = across + bend * torch.sin(wave * along[:, None] + phase)
    radius = (0.25 * scale)[:, 0].clamp(min=0.02)
    length = uniform(0.5, 1.8, (batch, 1, 1, 1), generator)
    return (across.square().sum(dim=1) < radius.square()) & (along.abs() < length)


def _shell(place: Tensor, scale: Tensor, generator: Generator) -> Tensor:
    batch = place.shape[0]
    outside = _solid(_local(place, (0.6, 1.2), 0.9, generator) / (1.3 * scale), 2.0)
    thickness = uniform(0.15, 0.6, (batch, 1, 1, 1), generator)
    return (outside < 0) & (outside > -thickness)


def _cluster(place: Tensor, scale: Tensor, generator: Generator) -> Tensor:
    """The peaks of a random field within an ellipsoid."""
    batch, _, *size = place.shape
    cells = max(6, min(size) // 4)
    peaks = smooth_noise(batch, 1, size, cells, generator)[:, 0] > uniform(0.4, 1.0, (batch, 1, 1, 1), generator)
    return peaks & (_solid(_local(place, (0.7, 1.2), 0.8, generator) / (1.3 * scale), 2.0) < 0)


# what the pile is made of; organs lie below it
_INSIDE = {"ellipsoid": _ellipsoid, "box": _box, "tube": _tube, "shell": _shell, "cluster": _cluster}
