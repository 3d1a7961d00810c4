"""Whether an adapted network looks worse than source-only, judged without target labels."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from monai_transfer.losses import information_score, label_agreement, soft_neighbourhood_density, voxel_samples
from monai_transfer.transforms.target import likeliest_class

Kept = Literal["adapted", "source_only"]
Predictor = Callable[[Tensor], Tensor]
"""Image ``(1, channels, *spatial)`` -> logits ``(1, classes, *spatial)``."""

SIZE_FACTOR = 4.0
"""A foreground more than so many times beyond the range of the source's labels is implausible."""

INFORMATION_DROP, DENSITY_DROP = 0.2, 0.1
AGREEMENT_DROP, VALIDATION_DROP = 0.1, 0.5
SIZE_DROP = 1.0
SCRAMBLED = 0.6
"""A network whose labels of an image and of a scrambled one agree to more than this Dice does not look at the image."""

VOTES = 3
"""So many scores must be clearly worse before source-only is kept: in doubt, the adapted network is."""

_SAMPLED_VOXELS = 2000
NOISE, GAIN = 0.1, 1.1
"""The slight perturbation: noise in standard deviations of the image, and a factor of its intensities."""


@dataclass(frozen=True)
class LabelFreeScores:
    """How a network's predictions on unlabelled images look.

    Higher is better but for ``foreground_ml`` and ``scrambled``.

    Attributes:
        information: see :func:`monai_transfer.losses.information_score`.
        density: see :func:`monai_transfer.losses.soft_neighbourhood_density`.
        agreement: mean foreground Dice of the label maps of an image and of a slightly perturbed one.
        scrambled: the same of an image and of one with its power spectrum and random phases, which shows nothing.
        foreground_ml: median volume of all labels together.
        size: minus the mean distance, in factors of two, of the labels' median volumes from the source's; at least -6.
        finite: whether every prediction is a number.
        source_validation: mean Dice on held source cases, where it was measured.

    Example:
        >>> sizes = SourceSizes(foreground_ml=(1.0, 2.0), label_ml={1: 1.5})
        >>> network = torch.nn.Conv2d(1, 2, 1)
        >>> scores = label_free_scores(network, [torch.rand(1, 1, 16, 16)], voxel_ml=0.01, sizes=sizes)
        >>> scores.finite, 0 <= scores.information <= 1
        (True, True)
    """

    information: float
    density: float
    agreement: float
    scrambled: float
    foreground_ml: float
    size: float
    finite: bool = True
    source_validation: float | None = None


@dataclass(frozen=True)
class SourceSizes:
    """Volumes of the source's labels.

    Attributes:
        foreground_ml: of all labels together, smallest and largest case.
        label_ml: class -> median volume.

    Example:
        >>> sizes = SourceSizes(foreground_ml=(900.0, 1400.0), label_ml={1: 1100.0})
        >>> sizes.plausible(300.0), sizes.plausible(20.0)
        (True, False)
    """

    foreground_ml: tuple[float, float]
    label_ml: dict[int, float]

    def plausible(self, foreground_ml: float) -> bool:
        """Whether a foreground lies within four times the range of the source's."""
        low, high = self.foreground_ml
        return low / SIZE_FACTOR <= foreground_ml <= high * SIZE_FACTOR


@dataclass(frozen=True)
class Choice:
    """Which network a bundle keeps, and why.

    Attributes:
        kept: ``"adapted"`` or ``"source_only"``.
        reason: one sentence.
        adapted: scores of the adapted network.
        source_only: scores of the network that it is compared with.

    Example:
        >>> good, collapsed = (LabelFreeScores(0.5, 4.0, 0.8, 0.4, foreground_ml=ml, size=-0.5) for ml in (100.0, 0.0))
        >>> choose_network(collapsed, good, SourceSizes((90.0, 120.0), {1: 100.0})).kept
        'source_only'
    """

    kept: Kept
    reason: str
    adapted: LabelFreeScores
    source_only: LabelFreeScores

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values; a number that is none is None."""
        scores = {"adapted": _ready(self.adapted), "source_only": _ready(self.source_only)}
        return {"kept": self.kept, "reason": self.reason, "scores": scores}


@torch.no_grad()
def label_free_scores(
    predict: Predictor,
    images: Iterable[Tensor],
    *,
    voxel_ml: float,
    sizes: SourceSizes,
    source_validation: float | None = None,
    seed: int = 0,
) -> LabelFreeScores:
    """Score a network on images without labels.

    Args:
        predict: the network.
        images: preprocessed target images ``(1, channels, *spatial)``.
        voxel_ml: volume of a voxel of the working grid.
        sizes: volumes of the source's labels.
        source_validation: mean Dice on held source cases, passed on.
        seed: of the perturbation.

    Raises:
        ValueError: when there is no image.
    """
    generator = torch.Generator().manual_seed(seed)
    samples, agreements, scrambled, volumes, finite = [], [], [], [], True
    for image in images:
        logits = predict(image).float()
        finite = finite and bool(torch.isfinite(logits).all())
        labels, classes = likeliest_class(logits, 1), logits.shape[1]
        noise = torch.randn(image.shape, generator=generator).to(image)
        again = likeliest_class(predict(GAIN * image + NOISE * image.std() * noise).float(), 1)
        agreements.append(float(label_agreement(labels, again, classes)))
        nothing = likeliest_class(predict(_phase_scrambled(image, noise)).float(), 1)
        scrambled.append(float(label_agreement(labels, nothing, classes)) if bool(labels.any()) else 0.0)
        volumes.append(torch.bincount(labels.flatten(), minlength=classes).double().cpu() * voxel_ml)
        samples.append(voxel_samples(logits.softmax(1), _SAMPLED_VOXELS))
    if not samples:
        raise ValueError("there are no images to score on")
    voxels = torch.cat(samples)
    per_label = torch.stack(volumes)[:, 1:]
    return LabelFreeScores(
        information=float(information_score(voxels)),
        density=float(soft_neighbourhood_density(voxels, limit=_SAMPLED_VOXELS)),
        agreement=sum(agreements) / len(agreements),
        scrambled=sum(scrambled) / len(scrambled),
        foreground_ml=float(per_label.sum(1).median()),
        size=_size(per_label.median(0).values.tolist(), sizes),
        finite=finite,
        source_validation=source_validation,
    )


def choose_network(adapted: LabelFreeScores, source_only: LabelFreeScores, sizes: SourceSizes) -> Choice:
    """Keep source-only where the adapted network looks worse; in doubt, keep the adapted one.

    Source-only is kept when the adapted network gives no numbers; when its foreground is implausible and source-only's
    is not; when it paints the same anatomy into an image and into one with the same power spectrum and random phases;
    or when at least three of the scores, the sizes of the labels among them, are clearly worse. Certainty alone
    decides nothing: a network on a domain that it does not know is often certainly wrong.
    """
    judged = _compared(adapted, source_only, sizes)
    if judged.kept == "adapted" and adapted.scrambled > SCRAMBLED >= source_only.scrambled:
        reason = (
            f"the adapted network gives nearly the same labels ({adapted.scrambled:.2f} Dice) for an image and for a "
            "scrambled one that shows nothing"
        )
        return Choice("source_only", reason, adapted, source_only)
    return judged


def _compared(adapted: LabelFreeScores, source_only: LabelFreeScores, sizes: SourceSizes) -> Choice:
    """The choice by everything but the scrambled image."""
    if not adapted.finite:
        return Choice("source_only", "the adapted network gives values that are not numbers", adapted, source_only)
    sound, floor_sound = (scores.finite and sizes.plausible(scores.foreground_ml) for scores in (adapted, source_only))
    low, high = sizes.foreground_ml
    given = f"against {low:.3g} to {high:.3g} ml in the source's labels"
    if floor_sound and not sound:
        reason = f"the adapted network finds {adapted.foreground_ml:.3g} ml of foreground, {given}"
        return Choice("source_only", reason, adapted, source_only)
    worse = clearly_worse(adapted, source_only)
    if "label sizes" in worse and len(worse) >= VOTES and not (sound and not floor_sound):
        return Choice("source_only", f"clearly worse without labels: {', '.join(worse)}", adapted, source_only)
    if not sound and not floor_sound:
        reason = f"neither network looks right: {adapted.foreground_ml:.3g} ml of foreground (adapted), {given}"
        return Choice("adapted", reason, adapted, source_only)
    reason = f"not clearly worse without labels (worse: {', '.join(worse) or 'nothing'})"
    return Choice("adapted", reason, adapted, source_only)


def choose_checkpoint(candidates: Mapping[int, LabelFreeScores], sizes: SourceSizes) -> int:
    """The latest step that looks no worse than any other, by the rules of :func:`choose_network`.

    That a network looks at the image at all is asked once, of the chosen one: an unfinished network always does.

    A schedule that lowers the learning rate to almost nothing makes later weights the better ones, unless training
    collapsed; so the last one is kept where nothing speaks against it.

    Args:
        candidates: step -> scores; at least one.
        sizes: volumes of the source's labels.
    """
    latest_first = sorted(candidates, reverse=True)
    for step in latest_first:
        others = (candidates[other] for other in latest_first if other != step)
        if all(_compared(candidates[step], other, sizes).kept == "adapted" for other in others):
            return step
    return latest_first[0]


@dataclass(frozen=True)
class CheckpointChoice:
    """Which of the checkpoints of one training is used.

    Attributes:
        step: optimizer steps of the chosen one.
        scores: step -> label-free scores of each.
        dice: step -> mean Dice on the labelled test cases, where there are any; they did not take part in the choice.

    Example:
        >>> CheckpointChoice(step=200, scores={}, dice={100: 0.75, 200: 0.5}).shortfall
        0.25
    """

    step: int
    scores: dict[int, LabelFreeScores]
    dice: dict[int, float] = field(default_factory=dict)

    @property
    def shortfall(self) -> float | None:
        """By how much mean Dice of the best checkpoint exceeds the chosen one's."""
        return max(self.dice.values()) - self.dice[self.step] if self.dice else None

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return {
            "step": self.step,
            "shortfall": self.shortfall,
            "dice": {str(step): value for step, value in self.dice.items()},
            "scores": {str(step): _ready(scores) for step, scores in self.scores.items()},
        }


def clearly_worse(adapted: LabelFreeScores, source_only: LabelFreeScores) -> list[str]:
    """The scores by which the adapted network is clearly worse, in words."""
    checks = {
        "label sizes": adapted.size < source_only.size - SIZE_DROP,
        "information of the predictions": adapted.information < source_only.information * (1 - INFORMATION_DROP),
        "neighbourhood density": adapted.density < source_only.density * (1 - DENSITY_DROP),
        "agreement under perturbation": adapted.agreement < source_only.agreement - AGREEMENT_DROP,
    }
    ours, floor = adapted.source_validation, source_only.source_validation
    if ours is not None and floor is not None:
        checks["source validation"] = ours < floor * (1 - VALIDATION_DROP)
    return [name for name, worse in checks.items() if worse]


def _phase_scrambled(image: Tensor, noise: Tensor) -> Tensor:
    """An image ``(1, channels, *spatial)`` with each channel's power spectrum and the phases of ``noise``."""
    axes = tuple(range(2, image.ndim))
    spectrum, phases = torch.fft.rfftn(image.float(), dim=axes), torch.fft.rfftn(noise.float(), dim=axes)
    phases = phases / phases.abs().clamp(min=1e-9)
    scrambled: Tensor = torch.fft.irfftn(spectrum.abs() * phases, s=image.shape[2:], dim=axes)
    return scrambled


def _ready(scores: LabelFreeScores) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(scores).items()}


def _size(volumes_ml: Sequence[float], sizes: SourceSizes, most: float = 6.0) -> float:
    """Minus the mean of |log2(predicted / source)| over the labels that the source has."""
    distances = []
    for label, expected in sizes.label_ml.items():
        found = volumes_ml[label - 1]
        distances.append(min(most, abs(math.log2(found / expected))) if found > 0 else most)
    return -sum(distances) / len(distances) if distances else 0.0
