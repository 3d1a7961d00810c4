"""What changes a training case at random: its window, its shape and its looks."""

from collections.abc import Sequence
from typing import Literal

import torch
from monai.transforms import (
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandGridDistortiond,
    RandScaleIntensityd,
    RandSimulateLowResolutiond,
    RandSpatialCropd,
    SpatialPadd,
    Transform,
)
from monai.utils import PytorchPadMode
from monai.utils.enums import CommonKeys as Keys

from monai_transfer.errors import UserError
from monai_transfer.transforms.class_intensity import RandClassIntensityd
from monai_transfer.transforms.fourier_style import RandFourierStyled
from monai_transfer.transforms.gin import RandGINd
from monai_transfer.transforms.histogram_match import RandHistogramMatchd
from monai_transfer.transforms.intensity_profile import ClassIntensities
from monai_transfer.transforms.labels import PSEUDO_LABEL, UNLABELLED
from monai_transfer.transforms.nnunet_intensity import nnunet_intensity
from monai_transfer.transforms.random_intensity import RandContrastCurve, RandContrastCurved, RandSmoothBiasd
from monai_transfer.transforms.reference_pool import Reference

Augmentation = Literal["none", "standard", "modality", "gin", "nnunet", "fourier", "histogram"]

_CURVED = 0.9
_KNOTS = (3, 5)
_BORROWED = 0.8
_UNEVEN = 0.7
_CELLS = 4
"""Parts of a window along each axis that are stretched each by its own factor: each about as large as an organ."""


def random_crop(keys: Sequence[str], roi_size: Sequence[int]) -> list[Transform]:
    """Windows of ``roi_size``, two of three around a label where there are labels."""
    size = list(roi_size)
    pads: list[Transform] = [SpatialPadd(keys=Keys.IMAGE, spatial_size=size, mode=PytorchPadMode.REPLICATE)]
    if Keys.LABEL not in keys:
        pads += [SpatialPadd(keys=key, spatial_size=size, value=UNLABELLED) for key in keys if key == PSEUDO_LABEL]
        return [*pads, RandSpatialCropd(keys=keys, roi_size=size, random_size=False)]
    crop = RandCropByPosNegLabeld(
        keys=keys, label_key=Keys.LABEL, spatial_size=size, pos=2.0, neg=1.0, num_samples=1, allow_smaller=False
    )
    return [*pads, SpatialPadd(keys=Keys.LABEL, spatial_size=size), crop]


def deformed(
    keys: Sequence[str], *, deformation: float, stretch: float, flip_axes: Sequence[int], device: torch.device | str
) -> list[Transform]:
    """Random flips, stretches, rotation, zoom and shift, the same for the image and its labels; see ``preset``."""
    flips: list[Transform] = [RandFlipd(keys=keys, prob=0.5, spatial_axis=axis) for axis in flip_axes]
    modes = ["bilinear" if key == Keys.IMAGE else "nearest" for key in keys]
    if stretch:
        parts = RandGridDistortiond(
            keys=keys,
            prob=_UNEVEN,
            num_cells=_CELLS,
            distort_limit=stretch,
            mode=modes,
            padding_mode="border",
            device=torch.device(device),
        )
        flips.append(parts)
    if deformation == 0:
        return flips
    affine = RandAffined(
        keys=keys,
        prob=0.9,
        rotate_range=[0.26 * deformation] * 3,
        scale_range=[stretch or 0.15 * deformation] * 3,
        translate_range=[4.0 * deformation] * 3,
        mode=modes,
        padding_mode="border",
        device=device,
    )
    return [*flips, affine]


def appearance(
    augmentation: Augmentation,
    *,
    intensities: ClassIntensities | None = None,
    references: Sequence[Reference] | None = None,
) -> list[Transform]:
    """Random intensity transforms of one name, for the image alone; see ``preset``."""
    if augmentation == "none":
        return []
    image = [Keys.IMAGE]
    painted: list[Transform] = []
    if intensities is not None:
        curve = RandContrastCurve(_CURVED, _KNOTS) if augmentation == "modality" else None
        painted.append(RandClassIntensityd(image, Keys.LABEL, intensities, curve=curve))
    if augmentation == "nnunet":
        return [*painted, nnunet_intensity(image)]
    common = [
        RandSimulateLowResolutiond(keys=image, prob=0.25, zoom_range=(0.5, 1.0)),
        RandGaussianSmoothd(keys=image, prob=0.2, sigma_x=(0.4, 0.9), sigma_y=(0.4, 0.9), sigma_z=(0.4, 0.9)),
        RandGaussianNoised(keys=image, prob=0.5, std=0.2),
    ]
    if augmentation == "gin":
        return [*painted, RandGINd(image, prob=_CURVED), *common]
    if augmentation == "modality":
        contrast = painted or [RandContrastCurved(keys=image, prob=_CURVED, knots=_KNOTS)]
        return [*contrast, RandSmoothBiasd(keys=image, prob=0.7, std=(0.0, 0.5)), *common]
    mild = [
        *painted,
        RandScaleIntensityd(keys=image, prob=0.3, factors=0.15),
        RandSmoothBiasd(keys=image, prob=0.3, std=(0.0, 0.3)),
        *common,
    ]
    if augmentation == "standard":
        return mild
    if references is None:
        raise UserError(f"The augmentation {augmentation} needs references, images of the target.")
    borrowed = RandFourierStyled if augmentation == "fourier" else RandHistogramMatchd
    return [borrowed(image, references, prob=_BORROWED), *mild]
