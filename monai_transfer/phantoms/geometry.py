"""Implicit shapes in millimetres: every function returns a field that is below 1 inside the shape."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""Values on a grid, ``(x, y, z)``."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with its own place, half axes and rotation, all in millimetres and radians."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def varied(
        self, rng: np.random.Generator, *, shift: float, scale: float, rotation: float, size: float = 1.0
    ) -> Self:
        """This ellipsoid in another person.

        Args:
            rng: where the variation comes from.
            shift: standard deviation of the centre, mm.
            scale: standard deviation of each half axis, as a share.
            rotation: standard deviation of each angle, radians.
            size: factor common to all half axes.
        """
        factors = size * np.exp(np.clip(rng.normal(0.0, scale, 3), -2 * scale, 2 * scale))
        shifts = np.clip(rng.normal(0.0, shift, 3), -2 * shift, 2 * shift)
        turns = np.clip(rng.normal(0.0, rotation, 3), -2 * rotation, 2 * rotation)
        return type(self)(
            _triple(np.add(self.centre, shifts)),
            _triple(np.multiply(self.axes, factors)),
            _triple(np.add(self.angles, turns)),
        )

    def relative(self, centre: tuple[float, float, float], axes: tuple[float, float, float]) -> Self:
        """An ellipsoid given in the frame of this one, in units of its half axes."""
        turned = rotation_matrix(self.angles).T @ np.multiply(centre, self.axes)
        return type(self)(_triple(self.centre + turned), _triple(np.multiply(axes, self.axes)), self.angles)

    def field(self, points: Field) -> Field:
        """Normalised radius, ``(x, y, z)``, at ``points``, ``(3, x, y, z)``."""
        matrix = rotation_matrix(self.angles) / np.asarray(self.axes)[:, None]
        offset = matrix @ np.asarray(self.centre)
        squares = np.zeros(points.shape[1:], np.float32)
        for row, constant in zip(matrix.astype(np.float32), offset.astype(np.float32), strict=True):
            component = row[0] * points[0]
            component += row[1] * points[1]
            component += row[2] * points[2]
            component -= constant
            squares += component * component
        return np.asarray(np.sqrt(squares), np.float32)


@dataclass(frozen=True)
class Tube:
    """A tube that runs from feet to head, swinging a little from side to side; millimetres."""

    centre: tuple[float, float]
    radius: float
    swing: float = 0.0
    wavelength: float = 240.0
    phase: float = 0.0

    def field(self, points: Field) -> Field:
        """Normalised distance from the axis, ``(x, y, z)``, at ``points``, ``(3, x, y, z)``."""
        angle = points[2] * np.float32(2 * np.pi / self.wavelength) + np.float32(self.phase)
        x = points[0] - np.float32(self.centre[0]) - np.float32(self.swing) * np.cos(angle)
        y = points[1] - np.float32(self.centre[1]) - np.float32(0.6 * self.swing) * np.sin(angle)
        return np.asarray(np.sqrt(x * x + y * y) / np.float32(self.radius), np.float32)


@dataclass(frozen=True)
class Waves:
    """A smooth random scalar field: a sum of plane waves, so that it is defined at every point of the world.

    Attributes:
        vectors: wave vectors, ``(waves, 3)``, radians per mm.
        phases: ``(waves,)``, radians.
        amplitudes: ``(waves,)``; the field has unit variance times their common factor.
    """

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]
    amplitudes: NDArray[np.float64]

    @classmethod
    def random(
        cls, rng: np.random.Generator, *, shortest: float, longest: float, amplitude: float, waves: int = 8
    ) -> Self:
        """Waves of random direction, with wavelengths between ``shortest`` and ``longest`` mm and this RMS."""
        directions = rng.normal(size=(waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), waves))
        return cls(
            directions * (2 * np.pi / lengths)[:, None],
            rng.uniform(0, 2 * np.pi, waves),
            np.full(waves, amplitude * np.sqrt(2 / waves)),
        )

    def on_grid(self, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Field:
        """The field on a voxel grid, ``(x, y, z)``; a plane wave is a product along the grid's axes."""
        total = np.zeros(shape, np.float32)
        for vector, phase, amplitude in zip(self.vectors, self.phases, self.amplitudes, strict=True):
            steps = affine[:3, :3].T @ vector
            start = phase + vector @ affine[:3, 3]
            x, y, z = (
                np.exp(1j * step * np.arange(n)).astype(np.complex64) for step, n in zip(steps, shape, strict=True)
            )
            plane = np.complex64(amplitude * np.exp(1j * start)) * x[:, None] * y[None, :]
            total += plane.real[:, :, None] * z.real - plane.imag[:, :, None] * z.imag
        return total


def grid_points(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Field:
    """World coordinates of the voxel centres, ``(3, x, y, z)``, mm."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    matrix = affine.astype(np.float32)
    rows = [matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] * z + matrix[i, 3] for i in range(3)]
    return np.stack(rows).astype(np.float32)


def rotation_matrix(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """The rotation by ``angles`` (radians) about x, then y, then z, ``(3, 3)``."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def carve(field: Field, hollow: Field) -> Field:
    """``field``'s shape without ``hollow``'s."""
    return np.maximum(field, 2 - hollow)


def superellipse(points: Field, *, centre: tuple[float, float], axes: tuple[float, float], power: float) -> Field:
    """Normalised radius in the axial plane, ``(x, y, z)``, of a rounded box that runs from feet to head."""
    x = np.abs((points[0] - np.float32(centre[0])) / np.float32(axes[0])) ** np.float32(power)
    y = np.abs((points[1] - np.float32(centre[1])) / np.float32(axes[1])) ** np.float32(power)
    return np.asarray((x + y) ** np.float32(1 / power), np.float32)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
