"""Painting a person on a voxel grid: a tissue map and the label map that belongs to it."""

import numpy as np
from numpy.typing import NDArray

from monai_transfer.phantoms.anatomy import Anatomy
from monai_transfer.phantoms.geometry import Field, carve, superellipse
from monai_transfer.phantoms.tissue import Tissue

Mask = NDArray[np.bool_]


class Canvas:
    """Tissue and label of every voxel while a person is painted; what is painted later covers what was before."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Start with air everywhere."""
        self.tissue = np.full(shape, Tissue.AIR, np.uint8)
        self.label = np.zeros(shape, np.uint8)

    def paint(self, mask: Mask, tissue: Tissue, label: int = 0) -> None:
        """Cover ``mask`` with a tissue and a label."""
        self.tissue[mask] = tissue
        self.label[mask] = label


def paint(
    anatomy: Anatomy, affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissue map and label map of a person, each ``(x, y, z)``.

    Args:
        anatomy: the person.
        affine: voxel to body frame, mm.
        shape: voxels along each axis.
    """
    points, bumps = anatomy.body_points(affine, shape)
    canvas = Canvas(shape)
    cavity = _paint_wall(canvas, anatomy, points)
    thorax = cavity & (points[2] > _diaphragm(anatomy, points))
    abdomen = cavity & ~thorax
    _paint_thorax(canvas, anatomy, points, thorax)
    _paint_bowel(canvas, anatomy, points, abdomen)
    _paint_organs(canvas, anatomy, points, bumps, abdomen)
    _paint_spine(canvas, anatomy, points)
    _paint_vessels(canvas, anatomy, points, bumps, cavity)
    return canvas.tissue, canvas.label


def _paint_wall(canvas: Canvas, anatomy: Anatomy, points: Field) -> Mask:
    """Skin to peritoneum; returns the cavity."""
    wall = anatomy.wall
    (a, b), power = wall.axes, wall.power
    inner = wall.fat + wall.muscle
    body = superellipse(points, centre=(0, 0), axes=(a, b), power=power) < 1
    muscle = superellipse(points, centre=(0, -1), axes=(a - wall.fat, b - wall.fat), power=power)
    cavity = superellipse(points, centre=(0, 2), axes=(a - inner, b - inner), power=power) < 1
    canvas.paint(body, Tissue.FAT)
    canvas.paint(body & (muscle < 1), Tissue.MUSCLE)
    slope = points[2] + 0.45 * points[1]
    stripes = np.sin(slope * np.float32(2 * np.pi / 30) + np.float32(wall.rib_phase)) > 0.35
    rim = (muscle < 0.985) & (muscle > 0.985 - 0.55 * wall.muscle / b) & ~cavity
    chest = (points[2] > -45) & ((np.abs(points[0]) > 28) | (points[1] < 0))
    canvas.paint(rim & stripes & chest, Tissue.CORTICAL_BONE)
    canvas.paint(cavity, Tissue.FAT)
    return cavity


def _diaphragm(anatomy: Anatomy, points: Field) -> Field:
    """Height of the diaphragm, mm, above which the thorax begins."""
    y = ((points[1] - 6) / 62) ** 2
    right = anatomy.dome[0] - 52 * (((points[0] - 44) / 66) ** 2 + y)
    left = anatomy.dome[1] - 52 * (((points[0] + 44) / 66) ** 2 + y)
    return np.asarray(np.maximum(np.maximum(right, left), -12), np.float32)


def _paint_thorax(canvas: Canvas, anatomy: Anatomy, points: Field, thorax: Mask) -> None:
    x, y, z = points
    mediastinum = (x / 26) ** 2 + ((y + 4) / 60) ** 2 < 1
    heart = anatomy.organs["heart"].field(points) < 1
    canvas.paint(thorax, Tissue.LUNG)
    canvas.paint(thorax & mediastinum & (z > 20), Tissue.FAT)
    canvas.paint(thorax & heart, Tissue.HEART)


def _paint_bowel(canvas: Canvas, anatomy: Anatomy, points: Field, abdomen: Mask) -> None:
    for number, loop in enumerate(anatomy.bowel):
        field = loop.field(points)
        inside = abdomen & (field < 1)
        content = inside & (field < 0.75)
        canvas.paint(inside, Tissue.BOWEL)
        canvas.paint(content, Tissue.BOWEL_CONTENT)
        if number % 3 == 0:
            canvas.paint(content & (points[1] > loop.centre[1] + 2), Tissue.AIR)


def _paint_organs(canvas: Canvas, anatomy: Anatomy, points: Field, bumps: Field, abdomen: Mask) -> None:
    """Organs that press against each other: a voxel belongs to the one it lies deepest in."""
    organs = anatomy.organs
    liver = np.minimum(organs["liver_right_lobe"].field(points), organs["liver_left_lobe"].field(points))
    fields = [
        liver + bumps,
        carve(organs["spleen"].field(points) + bumps, organs["spleen_hilum"].field(points)),
        organs["right_kidney"].field(points) + bumps,
        organs["left_kidney"].field(points) - bumps,
        organs["stomach"].field(points) - bumps,
        organs["gallbladder"].field(points),
    ]
    owner = np.argmin(fields, axis=0)
    inside = abdomen & (np.min(fields, axis=0) < 1)
    canvas.paint(inside & (owner == 0), Tissue.LIVER, 1)
    canvas.paint(inside & (owner == 1), Tissue.SPLEEN, 2)
    for index, label, hilum in ((2, 3, "right_hilum"), (3, 4, "left_hilum")):
        kidney = inside & (owner == index)
        canvas.paint(kidney, Tissue.KIDNEY_CORTEX, label)
        canvas.paint(kidney & (fields[index] < 0.66), Tissue.KIDNEY_MEDULLA, label)
        canvas.paint(kidney & (organs[hilum].field(points) < 1), Tissue.FAT)
    stomach = inside & (owner == 4)
    canvas.paint(stomach, Tissue.BOWEL)
    canvas.paint(stomach & (fields[4] < 0.86), Tissue.STOMACH)
    canvas.paint(stomach & (fields[4] < 0.86) & (points[1] > anatomy.gas_level), Tissue.AIR)
    canvas.paint(inside & (owner == 5), Tissue.GALLBLADDER)


def _paint_spine(canvas: Canvas, anatomy: Anatomy, points: Field) -> None:
    x, (y0, radius), z = points[0], anatomy.spine, points[2]
    y = points[1] - np.float32(y0)
    psoas = ((np.abs(x) - radius - 9) / 12) ** 2 + ((y + 2) / 15) ** 2 < np.clip((-z - 30) / 50, 0, 1)
    canvas.paint(psoas & (canvas.label == 0), Tissue.MUSCLE)
    body = np.sqrt((x / radius) ** 2 + (y / (0.82 * radius)) ** 2)
    canal = np.sqrt(x**2 + (y + 0.82 * radius + 8) ** 2)
    level = np.mod(z + np.float32(7), np.float32(33))
    arch = (canal < 14) & (y < -0.5 * radius)
    process = (np.abs(x) < 4) & (y < -0.82 * radius - 14) & (y > -0.82 * radius - 34) & (level > 14)
    transverse = (np.abs(x) < 34) & (np.abs(y + 0.82 * radius + 6) < 5) & (np.abs(level - 22) < 6)
    canvas.paint(arch | process | transverse, Tissue.CORTICAL_BONE)
    canvas.paint(body < 1, Tissue.CORTICAL_BONE)
    canvas.paint(body < 0.84, Tissue.MARROW)
    canvas.paint((body < 1) & (level < 7), Tissue.DISC)
    canvas.paint((canal < 9) & (y < -0.7 * radius), Tissue.SPINAL_CANAL)


def _paint_vessels(canvas: Canvas, anatomy: Anatomy, points: Field, bumps: Field, cavity: Mask) -> None:
    vein = anatomy.vessels["vein"].field(points) < 1
    canvas.paint(vein & cavity & (points[2] < 70) & (canvas.label != 3), Tissue.VEIN)
    aorta = anatomy.vessels["aorta"].field(points) + 0.5 * bumps < 1
    bone = (canvas.tissue == Tissue.CORTICAL_BONE) | (canvas.tissue == Tissue.MARROW)
    canvas.paint(aorta & cavity & ~bone, Tissue.AORTA, 5)
