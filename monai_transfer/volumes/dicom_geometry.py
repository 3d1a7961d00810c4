"""How the frames of a DICOM series lie in space, and whether they form a grid.

A DICOM series has no affine. Each frame says where the centre of its first pixel lies and where its rows and columns
point; the third axis is what the positions make of it. Readers that take it from the first two frames, or spread the
distance from the first to the last evenly, are wrong without a word where a frame is missing, stored twice, or moved
sideways. Here a step from frame to frame is fitted and *every* frame is compared with it.

The step need not point out of the frame: with a tilted gantry the frames lean against the direction in which the table
moves. The grid then is sheared, which an affine expresses exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_transfer.volumes.dicom_frames import Frame
from monai_transfer.volumes.volume import Note, VolumeError

TOLERANCE_MM = 0.01
"""How far a frame may lie off the grid: positions are written with two or three decimals."""

_TOLERANCE_SHARE = 0.01
"""The same as a share of the slice spacing, for thick slices whose positions were computed with less care."""

_ROUNDED_SHARE, _ROUNDED_MM = 0.2, 0.101
"""Positions rounded to one decimal, as some scanners write them, are up to 0.05 mm off, and so is the line that is
drawn from the first to the last: usable, and worth a note."""

_STEEPEST_TILT = 45.0
"""Gantries tilt by 30 degrees at most; beyond this the frames are not a stack."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

_MOST_SLICES = 8192
"""An even grid with more slices than any scanner writes comes from two positions that hardly differ."""


@dataclass(frozen=True)
class Stack:
    """Frames in order on their grid.

    Attributes:
        frames: from the first slice to the last, along their normal.
        affine: column, row, slice to RAS mm, ``(4, 4)``.
        weights: for an uneven stack, each slice of the even grid as a place among the frames (2.25 is a quarter of the
            way from the third to the fourth); None where every frame is a slice.
        notes: what is odd.
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    notes: tuple[Note, ...] = ()


def places(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """How far each frame lies along the normal of the first, mm, ``(n,)``."""
    return np.array([frame.position @ frames[0].normal for frame in frames])


def tolerance(spacing: float) -> float:
    """How far a frame may lie off the grid, mm."""
    return max(TOLERANCE_MM, _TOLERANCE_SHARE * spacing)


def doubles(frames: Sequence[Frame]) -> list[tuple[Frame, Frame]]:
    """Neighbouring pairs of frames that lie at one place."""
    where = places(frames)
    order = np.argsort(where, kind="stable")
    gaps = np.diff(where[order])
    apart = gaps[gaps > TOLERANCE_MM]
    # Measured by the usual gap, so that an uneven stack may have small gaps without being taken for doubled.
    limit = tolerance(float(np.median(apart))) if len(apart) else TOLERANCE_MM
    return [(frames[order[n]], frames[order[n + 1]]) for n in np.flatnonzero(gaps <= limit)]


def is_even(frames: Sequence[Frame]) -> bool:
    """Whether the frames, in any order, lie on a grid."""
    if len(frames) < 2 or doubles(frames):
        return False
    ordered = _sorted(frames)
    step, off = _fit(ordered)
    return bool(off.max() <= tolerance(float(np.linalg.norm(step))))


def find_grid(frames: Sequence[Frame], *, allow_irregular: bool = False) -> Stack:
    """Put frames of one orientation in order and find their grid.

    Args:
        frames: at least one, all of the same orientation, matrix and pixel spacing.
        allow_irregular: lay an even grid over uneven slices.

    Raises:
        VolumeError: there is one frame only, frames lie at one place, or they lie unevenly.
    """
    name = frames[0].path.parent
    if len(frames) < 2:
        message = (
            f"{frames[0].name} is a single slice: a volume needs its neighbours, so name the folder of the series."
        )
        raise VolumeError("single_slice", message)
    if pairs := doubles(frames):
        first, second = pairs[0]
        more = f" (and {len(pairs) - 1} more pairs)" if len(pairs) > 1 else ""
        raise VolumeError(
            "double",
            f"{first.name} and {second.name} lie at the same place ({_place(first)}){more}: two scans or exports are "
            "mixed, so keep one of them in the folder.",
        )
    ordered = _sorted(frames)
    step, off = _fit(ordered)
    spacing = float(step @ ordered[0].normal)
    allowed = tolerance(spacing)
    notes = []
    if allowed < off.max() <= max(allowed, min(_ROUNDED_SHARE * spacing, _ROUNDED_MM)):
        message = (
            f"{name} has slices up to {off.max():.3f} mm off an even grid of {spacing:.3f} mm: their positions are "
            "rounded, and the grid is used."
        )
        notes.append(Note("rounded_positions", message))
    elif off.max() > allowed:
        return _even_grid(ordered, allow_irregular=allow_irregular)
    step, tilt = _upright(ordered, step)
    return Stack(tuple(ordered), _affine(ordered[0], step), None, (*notes, *tilt))


def _sorted(frames: Sequence[Frame]) -> list[Frame]:
    where = places(frames)
    return [frames[n] for n in np.argsort(where, kind="stable")]


def _fit(ordered: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The step from the first frame to the last in equal parts, and how far each frame lies off it, mm."""
    positions = np.array([frame.position for frame in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    expected = positions[0] + np.arange(len(ordered))[:, None] * step
    return step, np.linalg.norm(positions - expected, axis=1)


def _upright(ordered: Sequence[Frame], step: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[Note]]:
    """The step without the dust of rounding, or with the tilt that it has, and a note on that."""
    first = ordered[0]
    along = float(step @ first.normal)
    sideways = float(np.linalg.norm(step - along * first.normal))
    if sideways * (len(ordered) - 1) <= tolerance(along):
        return along * first.normal, []
    angle = float(np.degrees(np.arctan2(sideways, along)))
    if angle > _STEEPEST_TILT:
        message = (
            f"{first.path.parent} has frames that move aside at {angle:.0f}° from one to the next: they are not "
            "a stack, so export the series again."
        )
        raise VolumeError("irregular", message)
    message = (
        f"{first.path.parent} has frames that lean by {angle:.2f}° against the direction they are stacked in (gantry "
        "tilt): it is read as the sheared grid that it is, and most viewers show that without the shear."
    )
    return step, [Note("gantry_tilt", message)]


def _affine(first: Frame, step: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    between_rows, between_columns = first.spacing
    # PixelSpacing names the distance between rows first, but rows are counted along the second axis of the frame.
    columns = np.stack([first.axes[0] * between_columns, first.axes[1] * between_rows, step], axis=1)
    affine[:3, :3] = _LPS_TO_RAS @ columns
    affine[:3, 3] = _LPS_TO_RAS @ first.position
    return affine


def _even_grid(ordered: Sequence[Frame], *, allow_irregular: bool) -> Stack:
    """An even grid over uneven slices, as fine as their smallest gap, or the refusal that says where they are odd."""
    name, where = ordered[0].path.parent, places(ordered)
    gaps, span = np.diff(where), float(where[-1] - where[0])
    direction = (ordered[-1].position - ordered[0].position) / span
    straight = ordered[0].position + (where - where[0])[:, None] * direction
    sideways = np.linalg.norm(np.array([frame.position for frame in ordered]) - straight, axis=1)
    if (worst := float(sideways.max())) > tolerance(float(np.median(gaps))):
        odd = ordered[int(sideways.argmax())]
        message = (
            f"{odd.name} lies {worst:.2f} mm beside the line of the other slices of {name}: they form no grid, so "
            "remove it or export the series again."
        )
        raise VolumeError("irregular", message)
    if not allow_irregular:
        raise VolumeError("irregular", _unevenness(ordered, gaps))
    count = max(1, round(span / float(gaps.min())))
    if count >= _MOST_SLICES:
        message = f"{name} has slices {gaps.min():.3f} mm apart, and an even grid of {count + 1}: export it again."
        raise VolumeError("irregular", message)
    spacing = span / count
    weights = np.interp(where[0] + np.arange(count + 1) * spacing, where, np.arange(len(ordered), dtype=np.float64))
    # A slice that lies on the grid up to rounding is taken as it is.
    near = np.abs(weights - weights.round()) < 1e-4
    weights[near] = weights[near].round()
    new = int((weights != weights.round()).sum())
    step, tilt = _upright(ordered, direction * spacing)
    message = (
        f"{name} has slices {gaps.min():.3f} to {gaps.max():.3f} mm apart: they were resampled onto an even grid of "
        f"{spacing:.3f} mm, where {new} of {count + 1} slices are interpolated."
    )
    return Stack(tuple(ordered), _affine(ordered[0], step), weights, (Note("irregular", message), *tilt))


def _unevenness(ordered: Sequence[Frame], gaps: NDArray[np.float64]) -> str:
    usual = float(np.median(gaps))
    at = int(np.abs(gaps - usual).argmax())
    before, after = ordered[at], ordered[at + 1]
    missing = round(gaps[at] / usual) - 1
    whole = missing >= 1 and bool(np.allclose(gaps / usual, np.round(gaps / usual), atol=0.05))
    told = f"its gaps go from {gaps.min():.3f} to {gaps.max():.3f} mm"
    if whole:
        told = f"{missing} slices are missing there" if missing > 1 else "1 slice is missing there"
    return (
        f"{before.path.parent} is not evenly spaced: between {before.name} ({_place(before)}) and {after.name} "
        f"({_place(after)}) lie {gaps[at]:.3f} mm where {usual:.3f} mm are expected, {told}; restore the slices, or "
        "allow irregular spacing (--allow-irregular) to have them interpolated."
    )


def _place(frame: Frame) -> str:
    x, y, z = _LPS_TO_RAS @ frame.position
    return f"at {x:.1f}, {y:.1f}, {z:.1f} mm"
