"""How large the bodies of one data set are beside those of another, whatever the modality."""

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from monai_transfer.datasets.cases import Case, CaseDataset, spread
from monai_transfer.volumes.reading import read_volume
from monai_transfer.volumes.volume import Reading, spacing_of

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

logger = logging.getLogger(__name__)

_FEWEST, _CASES = 3, 4
"""Cases of either set without which nothing is measured, and how many are registered with each other: single pairs of
abdomens are off by up to 40 %."""

_LEAST, _MOST = 1.15, 2.0
"""Factors from which on the sets differ, and up to which: a network learns bodies that are somewhat larger and smaller
in any case, and what comes out more than twice as large is no match."""

_AGREEING = 0.75
"""Share of the pairs that must say so: of ten abdominal CT and eight MR of one size two of 3000 draws of four by four
do, while the median alone, of three by three that agreed on no more than the direction, did in one of twenty."""

_STARTS = (0.85, 1.2)
"""Scales from which a registration begins; one alone may end in the nearest of several optima."""

_VOXELS = 10_000
_FEWEST_VOXELS = 8
_BINS = 32
_ITERATIONS = 40


def body_scale(source: CaseDataset, target: CaseDataset) -> float:
    """How many times as large the target's bodies are as the source's; 1 where they do not clearly differ.

    Images of the two sets are registered by a similarity transform that makes their mutual information greatest (Mattes
    et al., *PET-CT image registration in the chest using free-form deformations*, IEEE TMI 2003), four with four, and
    each pair from either side, for a registration errs towards the image that it moves; no label is read. The median of
    the scales counts where three in four pairs agree that bodies differ by 1.15 or more, up or down: children beside
    adults do, people beside people do not. More than twice as large is no match.

    Args:
        source: the labelled domain.
        target: the domain to adapt to.

    Returns:
        The factor with two digits; 1.0 as well with fewer than three cases of either.

    Raises:
        VolumeError: when an image cannot be read.
    """
    if min(len(source), len(target)) < _FEWEST:
        return 1.0
    ours, theirs = (_coarse_images(dataset) for dataset in (source, target))
    both = [(_log_scale(one, other), _log_scale(other, one)) for one in ours for other in theirs]
    known = np.array([(there - back) / 2 for there, back in both if there is not None and back is not None])
    if len(known) < _FEWEST:
        return 1.0
    middle = float(np.median(known))
    agreeing, factor = float(np.mean(np.sign(middle) * known >= math.log(_LEAST))), math.exp(middle)
    logger.info("bodies of the target beside the source's: %.2f; %.0f %% of the pairs agree", factor, 100 * agreeing)
    return round(factor, 2) if agreeing >= _AGREEING and abs(middle) <= math.log(_MOST) else 1.0


def _coarse_images(dataset: CaseDataset) -> list["sitk.Image"]:
    """Cases from all over the set."""
    images = [_coarse(case, dataset.reading) for case in spread(dataset.cases, _CASES)]
    return [image for image in images if image is not None]


def _coarse(case: Case, reading: Reading) -> "sitk.Image | None":
    """The first channel as it lies in the body, on a grid of about 10 000 voxels; ``None`` of too few slices."""
    import SimpleITK as sitk  # noqa: N813 (here: it takes a second)

    volume = read_volume(case.images[0], reading=reading).turned_like(np.eye(4))
    if min(volume.shape) < _FEWEST_VOXELS:
        return None
    voxels, spacing = np.nan_to_num(volume.array[0].astype(np.float32)), spacing_of(volume.affine)
    low, high = (float(value) for value in np.percentile(voxels, (1, 99)))
    image = sitk.GetImageFromArray((np.clip(voxels, low, high) - low).T)  # as masses, from which they begin
    image.SetSpacing(spacing.tolist())
    lengths = spacing * voxels.shape
    step = float((lengths.prod() / _VOXELS) ** (1 / 3))
    size = [max(_FEWEST_VOXELS, round(length / step)) for length in lengths]
    smooth = sitk.SmoothingRecursiveGaussian(image, step / 2)
    where = ((0.0, 0.0, 0.0), (step, step, step), np.eye(3).ravel().tolist())
    return sitk.Resample(smooth, size, sitk.Transform(), sitk.sitkLinear, *where)


def _log_scale(source: "sitk.Image", target: "sitk.Image") -> float | None:
    """Logarithm of the scale from one image to another; ``None`` where they cannot be laid over each other."""
    import SimpleITK as sitk  # noqa: N813

    found: list[tuple[float, float]] = []
    by_mass = sitk.CenteredTransformInitializerFilter.MOMENTS
    for scale in _STARTS:
        transform = sitk.Similarity3DTransform()
        registration = sitk.ImageRegistrationMethod()
        registration.SetNumberOfThreads(1)  # sums in one order, and the same scale at every call
        registration.SetMetricAsMattesMutualInformation(_BINS)
        registration.SetInterpolator(sitk.sitkLinear)
        registration.SetOptimizerAsRegularStepGradientDescent(target.GetSpacing()[0] / 4, 1e-3, _ITERATIONS)
        registration.SetOptimizerScalesFromPhysicalShift()
        try:
            middles = sitk.CenteredTransformInitializer(target, source, transform, by_mass)
            transform = sitk.Similarity3DTransform(middles)
            transform.SetScale(1 / scale)
            registration.SetInitialTransform(transform, True)
            registration.Execute(target, source)
        except RuntimeError:  # an image of one value has no middle, and two that drift apart do not overlap
            continue
        found.append((registration.GetMetricValue(), -math.log(transform.GetScale())))
    return min(found)[1] if found else None
