"""One person's torso: sizes, places and shapes of the organs, sampled once and painted on any grid.

Coordinates are millimetres in the body's own frame: x to the person's right, y to the front, z to the head, with
the origin in the middle of the upper abdomen.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from monai_transfer.phantoms.geometry import Ellipsoid, Tube, Waves, grid_points

LIVER_LOBES = (
    Ellipsoid((46, 4, 6), (52, 56, 60), (0.0, 0.15, 0.1)),
    Ellipsoid((0, 26, 20), (52, 26, 30), (0.0, 0.3, 0.1)),
)
SPLEEN = Ellipsoid((-66, -22, -2), (28, 39, 49), (-0.25, 0.15, 0.35))
SPLEEN_HILUM = Ellipsoid((-32, -2, -4), (26, 32, 40))
RIGHT_KIDNEY = Ellipsoid((50, -34, -52), (26, 28, 50), (0.12, 0.14, -0.35))
LEFT_KIDNEY = Ellipsoid((-50, -34, -42), (26, 28, 51), (0.12, -0.14, 0.35))
STOMACH = Ellipsoid((-36, 24, 2), (32, 28, 38), (0.2, -0.5, 0.2))
HEART = Ellipsoid((-14, 14, 106), (48, 38, 48), (0.0, 0.3, 0.3))
GALLBLADDER = Ellipsoid((34, 26, -40), (14, 16, 22), (0.3, 0.2, 0.0))


@dataclass(frozen=True)
class Wall:
    """The layers around the cavity, mm: half axes of the body, thickness of fat and of muscle."""

    axes: tuple[float, float]
    power: float
    fat: float
    muscle: float
    rib_phase: float


@dataclass(frozen=True)
class Anatomy:
    """A person.

    Attributes:
        size: factor of the whole body.
        wall: the outline and its layers.
        organs: name -> shape.
        vessels: ``aorta`` and ``vein``.
        bowel: loops, each with its wall and content.
        dome: height of the right and of the left half of the diaphragm, mm.
        spine: y of the middle of the vertebral bodies, mm, and their radius, mm.
        gas_level: y above which the stomach holds gas, mm (a level, since gas rises).
        deformation: displacement along x, y and z, mm.
        surface: fine bumps of the organs' surfaces, in normalised radius.
    """

    size: float
    wall: Wall
    organs: dict[str, Ellipsoid]
    vessels: dict[str, Tube]
    bowel: tuple[Ellipsoid, ...]
    dome: tuple[float, float]
    spine: tuple[float, float]
    gas_level: float
    deformation: tuple[Waves, Waves, Waves]
    surface: Waves

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Self:
        """A person whose organs differ in size, place and rotation from everyone else's."""
        size = float(rng.uniform(0.93, 1.07))
        spine = (float(rng.normal(-49, 2)), float(rng.uniform(18, 21)))
        displacements = [
            Waves.random(rng, shortest=90, longest=260, amplitude=amplitude) for amplitude in (4.5, 4.0, 5.0)
        ]
        return cls(
            size=size,
            wall=_sample_wall(rng),
            organs=_sample_organs(rng),
            vessels=_sample_vessels(rng, front_of_spine=spine[0] + spine[1]),
            bowel=_sample_bowel(rng),
            dome=(float(rng.normal(54, 6)), float(rng.normal(46, 6))),
            spine=spine,
            gas_level=float(rng.uniform(24, 48)),
            deformation=(displacements[0], displacements[1], displacements[2]),
            surface=Waves.random(rng, shortest=28, longest=60, amplitude=0.035),
        )

    def body_points(
        self, affine: NDArray[np.float64], shape: tuple[int, int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coordinates of a grid's voxels in the undeformed body, ``(3, x, y, z)`` mm, and the surface bumps.

        Args:
            affine: voxel to body frame, mm.
            shape: voxels along each axis.
        """
        points = grid_points(affine, shape)
        for axis, waves in enumerate(self.deformation):
            points[axis] += waves.on_grid(affine, shape)
        points /= np.float32(self.size)
        return points, self.surface.on_grid(affine, shape)


def _sample_wall(rng: np.random.Generator) -> Wall:
    fat, muscle = float(rng.uniform(7, 20)), float(rng.uniform(10, 14))
    cavity = (rng.normal(99, 3), rng.normal(67, 2.5))
    return Wall(
        axes=(float(cavity[0] + fat + muscle), float(cavity[1] + fat + muscle)),
        power=float(rng.uniform(2.2, 2.7)),
        fat=fat,
        muscle=muscle,
        rib_phase=float(rng.uniform(0, 2 * np.pi)),
    )


def _sample_organs(rng: np.random.Generator) -> dict[str, Ellipsoid]:
    liver_size = float(rng.uniform(0.92, 1.1))
    liver_shift = rng.normal(0, 3, 3)
    right, left = (
        _moved(lobe.varied(rng, shift=3, scale=0.06, rotation=0.1, size=liver_size), liver_shift)
        for lobe in LIVER_LOBES
    )
    spleen = SPLEEN.varied(rng, shift=4, scale=0.08, rotation=0.12, size=float(rng.uniform(0.88, 1.2)))
    right_kidney = RIGHT_KIDNEY.varied(rng, shift=4, scale=0.06, rotation=0.1, size=rng.uniform(0.9, 1.12))
    left_kidney = LEFT_KIDNEY.varied(rng, shift=4, scale=0.06, rotation=0.1, size=rng.uniform(0.9, 1.12))
    return {
        "liver_right_lobe": right,
        "liver_left_lobe": left,
        "spleen": spleen,
        "spleen_hilum": SPLEEN_HILUM.varied(rng, shift=3, scale=0.06, rotation=0.1),
        "right_kidney": right_kidney,
        "right_hilum": right_kidney.relative((-0.85, 0.25, 0.0), (0.55, 0.4, 0.4)),
        "left_kidney": left_kidney,
        "left_hilum": left_kidney.relative((0.85, 0.25, 0.0), (0.55, 0.4, 0.4)),
        "stomach": STOMACH.varied(rng, shift=6, scale=0.15, rotation=0.2),
        "heart": HEART.varied(rng, shift=4, scale=0.08, rotation=0.1),
        "gallbladder": GALLBLADDER.varied(rng, shift=5, scale=0.2, rotation=0.2),
    }


def _sample_vessels(rng: np.random.Generator, *, front_of_spine: float) -> dict[str, Tube]:
    aorta_radius, vein_radius = float(rng.uniform(12.5, 15.0)), float(rng.uniform(9.0, 12.0))
    return {
        "aorta": Tube(
            (float(rng.normal(-11, 2)), front_of_spine + aorta_radius + 1),
            aorta_radius,
            swing=float(rng.uniform(1, 4)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        ),
        "vein": Tube(
            (float(rng.normal(17, 2)), front_of_spine + vein_radius + 4),
            vein_radius,
            swing=float(rng.uniform(1, 3)),
            phase=float(rng.uniform(0, 2 * np.pi)),
        ),
    }


def _sample_bowel(rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    loops = []
    for _ in range(int(rng.integers(9, 15))):
        centre = (float(rng.uniform(-78, 78)), float(rng.uniform(-8, 52)), float(rng.uniform(-125, -48)))
        thick, long = rng.uniform(11, 17), rng.uniform(20, 40)
        angles = rng.uniform(-np.pi, np.pi, 3)
        loops.append(Ellipsoid(centre, (float(long), float(thick), float(thick)), tuple(angles.tolist())))
    return tuple(loops)


def _moved(shape: Ellipsoid, shift: NDArray[np.float64]) -> Ellipsoid:
    x, y, z = (float(value) for value in np.add(shape.centre, shift))
    return Ellipsoid((x, y, z), shape.axes, shape.angles)
