"""The end of a training: a bundle learns to judge its own results, on held cases that look like those it is for."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandAffined
from monai.utils import convert_to_tensor
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.reading import InferenceBundle, read_bundle
from monai_transfer.bundle.request import Domains, held_source
from monai_transfer.datasets import CaseDataset
from monai_transfer.datasets.cases import spread
from monai_transfer.errors import UserError
from monai_transfer.evaluation.case_judge import JUDGE, CaseJudge, read_judge
from monai_transfer.evaluation.description import ImageKind
from monai_transfer.evaluation.dice_estimate import DiceEstimator
from monai_transfer.evaluation.familiarity import FEWEST as FEWEST_IMAGES
from monai_transfer.evaluation.familiarity import Familiarity
from monai_transfer.evaluation.predicted_dice import FEWEST as FEWEST_LABELS
from monai_transfer.evaluation.predicted_dice import KnownLabel
from monai_transfer.evaluation.selection import Predictor
from monai_transfer.inference.boxes import PartSeen, in_all
from monai_transfer.inference.parts import part_seen
from monai_transfer.inference.pipeline import atlas_of
from monai_transfer.inference.segmenter import Segmenter
from monai_transfer.inference.whole_image import Judge, over_whole_image, whole_image
from monai_transfer.losses import class_dice
from monai_transfer.machine import choose_device
from monai_transfer.transforms import ClassIntensities, IntensityProfile
from monai_transfer.transforms.presets import Augmentation, appearance
from monai_transfer.workflows.choice import source_sizes

logger = logging.getLogger(__name__)

LEAST_STEPS = 100
"""A shorter training is a trial: its network is not worth the minute that calibrating takes."""

APPEARANCES = 32
"""Images whose Dice is known: each half teaches a line of three quantities, and says how far the other's is off."""

_MOST_APPEARANCES = 4 * APPEARANCES
"""As many more as that where the images show few labels: a single one, or a lesion that half of the people have."""

SEEN = 12
"""Images that tell what is usual."""

_STYLES: tuple[Augmentation, ...] = ("standard", "modality") * 3 + ("modality", "gin")
"""Appearances of which each eight images get one each. All but the last paint the labels as they look in the images
that were seen: results are as good there as they will be, while those in random appearances are worse."""


def teach_judge(
    bundle: BundleFolder,
    plan: Plan,
    *,
    source: CaseDataset,
    held: CaseDataset | None,
    seen: CaseDataset,
    compared: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> CaseJudge | None:
    """Give a trained bundle its judge (``configs/judge.json``); ``None`` where the training was a short trial.

    Args:
        bundle: the trained bundle.
        plan: the choices of its training.
        source: labelled cases, which tell the usual sizes; where ``seen`` are others, no image should look like these.
        held: those of them that it did not learn from, if there are any.
        seen: images of the kind that it is for; their labels, if there are any, are not read.
        compared: whether it is only asked how good its labels are, beside another's: a third of the work less.
        say: called with a sentence where something cannot be measured.
    """
    if plan.steps < LEAST_STEPS:
        return None
    try:
        judge = _measured(bundle, plan, source, held, seen, compared, say)
    except Exception:  # the bundle is trained: no fault of what is measured beside it may cost it
        logger.warning("%s could not learn to judge its results", bundle.root, exc_info=True)
        return None
    bundle.write(JUDGE, judge.as_dict())
    return judge


def judge_of(segmenter: Segmenter, *, adapted: bool = False) -> Judge:
    """The judge of a segmenter; of an ensemble the first one's, whose members are alike.

    Args:
        segmenter: what segments.
        adapted: whether its network was adapted to the inputs, which then count as usual.

    Raises:
        UserError: its bundle was not calibrated.
    """
    root = segmenter.bundle.root
    judge = read_judge(root)
    if judge is None:
        raise UserError(
            f"{root} cannot estimate the Dice of its results: bundles of this package learn that at the end of a "
            f"training of at least {LEAST_STEPS} steps; omit --estimate-dice."
        )
    return replace(judge, familiarity=None).judge if adapted else judge.judge


def renew_familiarity(bundle: BundleFolder, target: CaseDataset, *, device: str, trust: bool = False) -> None:
    """Let a bundle that was adapted to other images judge by these what is usual; one without a judge stays so.

    What was usual before is then another kind of images.
    """
    judge = read_judge(bundle.root)
    if judge is not None:
        read = read_bundle(bundle.root, device=choose_device(device), trust=trust)
        before = judge.familiarity.usual if judge.familiarity else None
        images = _images(read, target, part_seen(read))
        familiarity, _ = _familiarity(judge, images, _predictor(read), before, enough=len(target) >= FEWEST_IMAGES)
        bundle.write(JUDGE, replace(judge, familiarity=familiarity).as_dict())


def estimated_unseen(bundle: BundleFolder, plan: Plan, domains: Domains) -> dict[str, float]:
    """Let an adapted bundle learn to judge its results, and estimate them on the test cases, whose labels are not read.

    Returns:
        Name of a label -> mean of its estimated Dice; nothing where it cannot be estimated.
    """
    held = held_source(domains.source)
    judge = teach_judge(bundle, plan, source=domains.source, held=held, seen=domains.target)
    return {} if domains.test is None else estimated_dice(bundle, judge, plan, domains.test)


def estimated_dice(
    bundle: BundleFolder, judge: CaseJudge | None, plan: Plan, images: CaseDataset, *, most: int | None = None
) -> dict[str, float]:
    """What a bundle's judge estimates the Dice of its labels at; labels of the images, if there are any, are not read.

    Args:
        bundle: the bundle.
        judge: its judge.
        plan: the choices of its training.
        images: to segment.
        most: so many of them are looked at; all by default.

    Returns:
        Name of a label -> mean of its estimated Dice; nothing where it cannot be estimated.
    """
    if judge is None or judge.estimator is None:
        return {}
    read = read_bundle(bundle.root, device=plan.device)
    names, predict = {n: name for n, name in plan.class_names.items() if n}, _predictor(read)
    found: dict[str, list[float]] = {}
    for case in spread(images.cases, most or len(images)):
        image = whole_image(read, case.images, images.reading)
        for name, estimate in judge.judge(image, predict, names)["estimated_dice"].items():
            found.setdefault(name, []).append(estimate["dice"])
    return {name: float(np.mean(values)) for name, values in found.items()}


def _measured(
    bundle: BundleFolder,
    plan: Plan,
    source: CaseDataset,
    held: CaseDataset | None,
    seen: CaseDataset,
    compared: bool,
    say: Callable[[str], None],
) -> CaseJudge:
    judge = CaseJudge(source_sizes(source, plan.label_values, plan.body_scale), math.prod(plan.spacing) / 1000)
    read = read_bundle(bundle.root, device=plan.device)
    predict, other = _predictor(read), None
    enough = len(seen) >= FEWEST_IMAGES and not compared
    if enough and seen is not source and len(source) >= FEWEST_IMAGES:
        other = ImageKind.of([judge.describe(image, predict) for image in _images(read, source)])
    if not enough and not compared:
        say(f"Unusual images will not be told: that takes at least {FEWEST_IMAGES} images, and there are {len(seen)}.")
    familiarity, look = _familiarity(judge, _images(read, seen), predict, other, enough=enough)
    estimator = None
    if held is None:
        say("The Dice of results cannot be estimated: too few labelled cases to hold one back.")
    else:
        known = known_in_appearances(judge, predict, plan, held, look)
        estimator = DiceEstimator.calibrate(known)
    return replace(judge, estimator=estimator, familiarity=familiarity)


def _familiarity(
    judge: CaseJudge, seen: Iterable[Tensor], predict: Predictor, other: ImageKind | None, *, enough: bool
) -> tuple[Familiarity | None, ClassIntensities]:
    """What is usual, where enough images were seen to tell, and how the labels look in them."""
    sights, mirrored, profiles = [], [], []
    for image in seen:
        sight = judge.look(image, predict)
        sights.append(sight.description)
        profiles.append(IntensityProfile.measure(image, sight.logits.float().softmax(0)))
        if enough:
            mirrored.append(judge.describe(image.flip(1), predict))
    look = ClassIntensities()
    look.renew(profiles)
    return Familiarity.learn(sights, mirrored=mirrored, other=other) if enough else None, look


def _predictor(read: InferenceBundle) -> Predictor:
    """What gives the logits of whole images that a bundle's labels are drawn from."""
    return over_whole_image(read.network, read.window, atlas_of(read))


def _images(read: InferenceBundle, cases: CaseDataset, part: PartSeen = in_all) -> Iterator[Tensor]:
    """Some of the images as the network sees them, ``(channels, *spatial)``."""
    return (whole_image(read, case.images, cases.reading, part) for case in spread(cases.cases, SEEN))


def known_in_appearances(
    judge: CaseJudge, predict: Predictor, plan: Plan, held: CaseDataset, look: ClassIntensities
) -> list[KnownLabel]:
    """What is seen of the labels of held cases in other appearances, and their Dice.

    Args:
        judge: measures.
        predict: the network.
        plan: the choices of its training.
        held: labelled cases.
        look: how the labels look in the images that the network is for.
    """
    known: list[KnownLabel] = []
    for number, (image, label) in enumerate(in_appearances(plan, held, _MOST_APPEARANCES, look)):
        if number >= APPEARANCES and len(known) >= 2 * FEWEST_LABELS:
            break
        sight = judge.look(image.to(plan.device), predict)
        dice = class_dice(sight.label, label.to(plan.device), plan.classes)
        present = torch.bincount(label.flatten(), minlength=plan.classes) > 0
        known += [
            KnownLabel(str(number), evidence, float(dice[label_number]), label=str(label_number))
            for label_number, evidence in sight.evidence.items()
            if bool(present[label_number])
        ]
    return known


def in_appearances(
    plan: Plan, held: CaseDataset, count: int, look: ClassIntensities
) -> Iterator[tuple[Tensor, Tensor]]:
    """Held cases as the network will see others: images ``(channels, *spatial)`` and labels ``(*spatial)``.

    Args:
        plan: the choices of the training.
        held: labelled cases, each taken in turn.
        count: number of images.
        look: how the labels look in the images that the network is for; random where it holds none.
    """
    read = plan.validation_preset(held.reading)
    cases = [read(item) for item in held.labelled.items()[:SEEN]]
    # mild, for people differ: the full deformation of the training makes bodies that no domain holds
    moved = RandAffined(
        keys=[Keys.IMAGE, Keys.LABEL],
        prob=0.5,
        rotate_range=[0.08] * 3,
        scale_range=[0.05] * 3,
        translate_range=[1.0] * 3,
        mode=["bilinear", "nearest"],
        padding_mode="border",
    )
    styles = [Compose(appearance(name, intensities=None if name == "gin" else look)) for name in _STYLES]
    for transform in (moved, *styles):
        transform.set_random_state(plan.seed)
    rng = np.random.default_rng(plan.seed)
    order: list[int] = []
    for number in range(count):
        # shuffled, for cases in turn and appearances in turn would give a case the same ones again and again
        order = order or rng.permutation(len(styles)).tolist()
        case: dict[str, Any] = {key: cases[number % len(cases)][key] for key in (Keys.IMAGE, Keys.LABEL)}
        case = styles[order.pop()](moved(case))
        # plain tensors: what is computed with traced ones takes half as long again
        image, label = (convert_to_tensor(case[key], track_meta=False) for key in (Keys.IMAGE, Keys.LABEL))
        yield image.float(), label[0].long()
