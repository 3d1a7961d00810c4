"""Which frames of one series form a volume together.

One SeriesInstanceUID may cover phases, echoes, exports, localizers and derived images. Frames are put together where
all that a volume shares agrees, and are told apart further where two of them would lie at one place.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from monai_transfer.volumes.dicom_frames import Frame
from monai_transfer.volumes.dicom_geometry import doubles, is_even, places

_SURE_PARTS = ("StackID", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers")
"""Frames that differ in these are parts of other volumes where they interleave, even if no two lie at one place."""

_LOOSE_PARTS = ("EchoTime", "DiffusionBValue", "NominalPercentageOfCardiacPhase", "TriggerTime")
"""These may differ from slice to slice of one volume; they are asked only when frames do lie at one place."""

_SAME_DIRECTION = 1e-4
"""How far unit vectors of one orientation may differ: 0.05 mm at the far side of a 500 mm image."""


def volumes_among(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of each volume, in the order in which they were met."""
    return [volume for group in _alike(frames) for volume in _apart(group)]


def _alike(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames put together by all that one volume must share."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            first = group[0]
            if (
                first.kind == frame.kind
                and first.storage.shape == frame.storage.shape
                and np.abs(first.axes - frame.axes).max() < _SAME_DIRECTION
                and np.allclose(first.spacing, frame.spacing, rtol=1e-4)
            ):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _apart(frames: list[Frame]) -> list[list[Frame]]:
    """The volumes among frames that could share a grid, told apart by what their headers say."""
    for name in _SURE_PARTS:
        parts = _by(frames, name)
        if len(parts) > 1 and _is_mixed(frames, parts):
            return [volume for part in parts for volume in _apart(part)]
    if not doubles(frames):
        return [frames]
    for name in _LOOSE_PARTS:
        parts = _by(frames, name)
        if (
            len({len(part) for part in parts}) == 1
            and 1 < len(parts) <= len(frames) // 2
            and not any(map(doubles, parts))
        ):
            return parts
    return _by_instance(frames)


def _by(frames: Sequence[Frame], name: str) -> list[list[Frame]]:
    parts: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[frame.parts.get(name, "")].append(frame)
    return list(parts.values())


def _is_mixed(frames: Sequence[Frame], parts: Sequence[Sequence[Frame]]) -> bool:
    """Whether parts are volumes of their own, rather than pieces of one that was scanned piece by piece.

    A sequential scan has an acquisition per table position: pieces that follow each other, evenly. Phases and echoes
    cover the same ground, so that their ranges overlap, whether or not their slices meet.
    """
    if doubles(frames):
        return True
    where = {id(frame): place for frame, place in zip(frames, places(frames), strict=True)}
    ranges = sorted((min(where[id(f)] for f in part), max(where[id(f)] for f in part)) for part in parts)
    follow = all(before[1] < after[0] for before, after in pairwise(ranges))
    if not follow:
        return min(map(len, parts)) > 1
    return not is_even(frames) and all(len(part) > 2 and is_even(part) for part in parts)


def _by_instance(frames: list[Frame]) -> list[list[Frame]]:
    """Volumes that were numbered one after the other: each run of numbers covers every place once."""
    ordered = sorted(frames, key=lambda frame: frame.instance[0])
    size = len(frames) - len(doubles(frames))
    numbers = [frame.instance[0] for frame in ordered]
    if len(frames) % size or len(set(numbers)) < len(numbers) or size < 2:
        return [frames]
    runs = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    whole = all(not doubles(run) and _runs_one_way(run) for run in runs)
    return runs if whole else [frames]


def _runs_one_way(frames: Sequence[Frame]) -> bool:
    steps = np.diff(places(frames))
    return bool((steps > 0).all() or (steps < 0).all())
