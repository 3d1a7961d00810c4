"""How far a bundle's judgement of its own results can be believed, on labelled cases and on images that are wrong."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_transfer.datasets import Case, CaseDataset
from monai_transfer.evaluation.matching import label_dice
from monai_transfer.inference import Segmentation, Segmenter
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Volume
from monai_transfer.workflows.judging import judge_of

_KEPT = 0.55
"""Share of a cut volume that is left, along one axis."""

_AXES = ("left to right", "back to front", "foot to head")


@dataclass(frozen=True)
class JudgeCheck:
    """What a judgement is worth.

    Attributes:
        labels: case, label, true Dice and its estimate, for every label that is in the truth or in the result.
        flagged: kind of image -> how many were told to be unlike, and how many there were.

    Example:
        >>> check = JudgeCheck([("a", "liver", 0.8, {"dice": 0.7, "low": 0.6, "high": 0.9})], {"as they are": (0, 1)})
        >>> check.as_report()["mean_absolute_error"], check.as_report()["covered"]
        (0.1, 1.0)
    """

    labels: list[tuple[str, str, float, Mapping[str, float]]]
    flagged: Mapping[str, tuple[int, int]]

    def as_report(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        errors = [abs(one["dice"] - dice) for _, _, dice, one in self.labels]
        covered = [one["low"] <= dice <= one["high"] for _, _, dice, one in self.labels]
        widths = [one["high"] - one["low"] for _, _, _, one in self.labels]
        return {
            "labels": len(self.labels),
            "mean_absolute_error": _mean(errors),
            "covered": _mean(covered),
            "mean_width": _mean(widths),
            "flagged": {kind: {"flagged": told, "of": count} for kind, (told, count) in self.flagged.items()},
        }

    @property
    def sentences(self) -> list[str]:
        """The same as rows of a table."""
        report = self.as_report()
        rows = ["| what | figure |", "|---|---|"]
        if self.labels:
            rows += [
                f"| labels of cases | {report['labels']} |",
                f"| mean absolute error of the estimated Dice | {report['mean_absolute_error']:.3f} |",
                f"| share of true Dice in the interval | {report['covered']:.2f} |",
                f"| mean width of the interval | {report['mean_width']:.2f} |",
            ]
        return rows + [f"| flagged, {kind} | {told} of {count} |" for kind, (told, count) in self.flagged.items()]


def check_judge(
    bundle: str | Path,
    dataset: CaseDataset,
    *,
    unlike: Mapping[str, CaseDataset] | None = None,
    device: str = "auto",
    trust: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> JudgeCheck:
    """Compare estimated with true Dice, and count which images are told to be unlike what the bundle has seen.

    Every labelled case is looked at as it is, flipped along each axis, and cut to half along one.

    Args:
        bundle: a bundle that estimates (see :func:`~monai_transfer.workflows.judging.teach_judge`).
        dataset: labelled cases of the kind that it is for.
        unlike: what the images are -> images that it is not for.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: let a bundle that was not made here run whatever code it names.
        say: called with the name of each case.

    Raises:
        UserError: the bundle cannot estimate, or a case cannot be read.
    """
    segmenter = Segmenter.from_bundle(bundle, device=device, trust=trust)
    segmenter.judge = judge_of(segmenter)
    labels: list[tuple[str, str, float, Mapping[str, float]]] = []
    told: dict[str, list[bool]] = {}
    for number, case in enumerate(dataset.labelled.cases):
        say(case.name)
        volume = read_volume(case.images, reading=dataset.reading)
        result = segmenter.segment(volume)
        labels += _estimated_and_true(case, volume, result, dataset)
        told.setdefault("as they are", []).append(bool(result.judgement["unlike"]))
        for kind, changed in _spoilt(volume, number):
            told.setdefault(kind, []).append(bool(segmenter.segment(changed).judgement["unlike"]))
    for kind, images in (unlike or {}).items():
        for case in images.cases:
            say(case.name)
            volume = read_volume(case.images, reading=images.reading)
            told.setdefault(kind, []).append(bool(segmenter.segment(volume).judgement["unlike"]))
    return JudgeCheck(labels, {kind: (sum(flags), len(flags)) for kind, flags in told.items()})


def _estimated_and_true(
    case: Case, volume: Volume, result: Segmentation, dataset: CaseDataset
) -> list[tuple[str, str, float, Mapping[str, float]]]:
    assert case.label is not None  # labelled cases only
    dice = label_dice(result.labels, case.label, volume, result.label_names, reading=dataset.reading)
    estimates = result.judgement["estimated_dice"]
    return [(case.name, name, value, estimates[name]) for name, value in dice.items() if name in estimates]


def _spoilt(volume: Volume, number: int) -> Iterator[tuple[str, Volume]]:
    """The volume flipped along each axis of the body, and cut along one of them."""
    import nibabel

    axes = nibabel.io_orientation(volume.affine)[:, 0].astype(int).tolist()
    for axis, along in enumerate(axes):
        yield f"flipped {_AXES[along]}", replace(volume, array=np.ascontiguousarray(np.flip(volume.array, axis + 1)))
    axis, length = number % 3, volume.shape[number % 3]
    first = 0 if number % 2 else length - int(_KEPT * length)
    part = [slice(None)] * volume.array.ndim
    part[axis + 1] = slice(first, first + int(_KEPT * length))
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * first
    yield "cut to half", replace(volume, array=np.ascontiguousarray(volume.array[tuple(part)]), affine=affine)


def _mean(values: list[float] | list[bool]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
