"""What a trained network's labels of the target look like, measured without any label of the target."""

from collections.abc import Sequence

import torch
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_transfer.adaptation import refine_probabilities
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import Domains, split_source
from monai_transfer.datasets import CaseDataset
from monai_transfer.evaluation.label_evidence import LabelEvidence, gather_evidence
from monai_transfer.evaluation.selection import Predictor
from monai_transfer.transforms import ClassIntensities, IntensityProfile, RandClassIntensityd
from monai_transfer.workflows.choice import LabelFreeScorer

PAINTED_VOLUMES = 2
"""So many held volumes of the source are painted in the target's intensities."""


def measure_labels(bundle: BundleFolder, plan: Plan, domains: Domains) -> dict[str, LabelEvidence]:
    """Look at the labels that a trained bundle gives to a few target training images.

    It costs some fifteen predictions of a volume, about what a few dozen steps of training do.

    Args:
        bundle: the trained bundle.
        plan: the choices of its training.
        domains: its cases; labels of the target, if there are any, are not read.

    Returns:
        Name of a label -> evidence.
    """
    scorer = LabelFreeScorer(bundle, plan, domains.source, domains.target)
    predict = scorer.predictor(bundle)
    evidence = gather_evidence(
        predict,
        scorer.images,
        voxel_ml=scorer.voxel_ml,
        sizes=scorer.sizes,
        painted=paint_source(predict, scorer.images, plan, split_source(domains.source)[1]),
    )
    return {name: evidence[number] for number, name in plan.class_names.items() if number}


def paint_source(
    predict: Predictor, images: Sequence[Tensor], plan: Plan, held: CaseDataset
) -> list[tuple[Tensor, Tensor]]:
    """Held source volumes as they would look in the target, if the network's labels of it were right.

    Every class gets the intensities that the network finds for it in a target image, what lies around the classes a
    contrast curve that fits its surroundings there (:class:`~monai_transfer.transforms.RandClassIntensityd`). A network
    that took the spleen for the kidney measures the spleen's intensities, and then misses the kidneys that are painted
    so and lie where kidneys do.

    Args:
        predict: the network.
        images: preprocessed target images ``(1, channels, *spatial)``.
        plan: the choices of its training.
        held: labelled source cases that it did not learn from.

    Returns:
        Images ``(1, channels, *spatial)`` and labels ``(1, *spatial)``; none where the network finds no class at all.
    """
    intensities = ClassIntensities(unknown=0.0)
    intensities.renew([_profile(predict, image) for image in images])
    if not intensities.profiles:
        return []
    read = plan.validation_preset(held.reading)
    paint = RandClassIntensityd(Keys.IMAGE, Keys.LABEL, intensities, prob=1.0, jitter=0.0, blur=0.1)
    paint.set_random_state(plan.seed)
    painted = []
    for item in held.items()[:PAINTED_VOLUMES]:
        case = paint(read(item))
        image, label = (torch.as_tensor(case[key])[None].to(plan.device) for key in (Keys.IMAGE, Keys.LABEL))
        painted.append((image.float(), label[:, 0].long()))
    return painted


def _profile(predict: Predictor, image: Tensor) -> IntensityProfile:
    with torch.no_grad():
        probabilities = predict(image).float().softmax(1)[0]
    return IntensityProfile.measure(image[0], refine_probabilities(image[0], probabilities))
