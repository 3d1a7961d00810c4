"""Transform pipelines for CT and MR: what a bundle's configuration calls by name."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from monai.transforms import (
    CastToTyped,
    Compose,
    CopyItemsd,
    CropForegroundd,
    EnsureTyped,
    Lambdad,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandSimulateLowResolutiond,
    RandSpatialCropd,
    ScaleIntensityRanged,
    Spacingd,
    SpatialPadd,
    ToDeviced,
    Transform,
)
from monai.transforms.utils_pytorch_numpy_unification import percentile
from monai.utils import PytorchPadMode
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, cat, split

from monai_transfer.errors import UserError
from monai_transfer.transforms.channel_dropout import RandChannelDropoutd
from monai_transfer.transforms.class_intensity import RandClassIntensityd
from monai_transfer.transforms.deform import RandDeformd
from monai_transfer.transforms.fourier_style import RandFourierStyled
from monai_transfer.transforms.gin import RandGINd
from monai_transfer.transforms.histogram_match import RandHistogramMatchd
from monai_transfer.transforms.n4 import N4BiasCorrectiond
from monai_transfer.transforms.nnunet_intensity import nnunet_intensity
from monai_transfer.transforms.random_intensity import RandContrastCurve, RandContrastCurved, RandSmoothBiasd
from monai_transfer.transforms.reference_pool import Reference
from monai_transfer.transforms.target import PSEUDO_LABEL, UNLABELLED, ClassIntensities, PseudoLabeld, PseudoLabels
from monai_transfer.volumes.monai_reader import LabelClassesd, load_volumes
from monai_transfer.volumes.volume import Reading

Modality = Literal["ct", "mr"]
Stage = Literal["train", "validate", "infer"]

ABSENT: dict[Modality, float] = {"ct": -1.0, "mr": 0.0}
"""What the intensity transforms make of a channel of a single value, air, which stands for one that is absent."""

WEAK = "weak"
"""Key under which the unlabelled training pipeline keeps the image as it was before strong augmentation."""

Augmentation = Literal["none", "standard", "modality", "gin", "nnunet", "fourier", "histogram"]

_CURVED = 0.9
_KNOTS = (3, 5)
_BORROWED = 0.8
_UNEVEN = 0.7
_CELLS = 4
"""Parts of a window along each axis that are stretched each by its own factor: each about as large as an organ."""


def preset(
    modality: Modality,
    stage: Stage,
    *,
    spacing: Sequence[float],
    roi_size: Sequence[int] | None = None,
    window: Sequence[float] = (-160.0, 240.0),
    labelled: bool = True,
    augmentation: Augmentation = "standard",
    flip_axes: Sequence[int] = (),
    deformation: float = 1.0,
    stretch: float = 0.0,
    bias_correction: bool = False,
    intensities: ClassIntensities | None = None,
    pseudo_labels: PseudoLabels | None = None,
    references: Sequence[Reference] | None = None,
    label_values: Sequence[int] | None = None,
    channel_dropout: float = 0.0,
    reading: Reading | Mapping[str, bool] = Reading(),  # noqa: B008 (frozen)
    device: torch.device | str = "cpu",
) -> Compose:
    """The transforms of one modality for one stage, from files to tensors ``(channels, *roi_size)``.

    Args:
        modality: ``"ct"`` (HU window, body crop) or ``"mr"`` (percentile clipping and z-score of the foreground).
        stage: ``"train"`` adds random crops and augmentation, ``"validate"`` keeps the label, ``"infer"`` has none.
        spacing: working grid in mm, right-anterior-superior order.
        roi_size: size of the random crop in voxels; training only.
        window: lower and upper HU that become -1 and 1; CT only.
        labelled: whether cases carry a label; an unlabelled training case keeps its plain view under ``"weak"``.
        augmentation: ``"none"``, ``"standard"`` (mild, as supervised training wants it), ``"modality"`` (random
            contrast curves and more, so that the network cannot rely on appearance), ``"gin"`` (random shallow
            networks), ``"nnunet"`` (nnU-Net's set), ``"fourier"`` or ``"histogram"`` (the style, or the histogram, of
            one of the ``references``).
        flip_axes: spatial axes to flip at random; empty because most organs have a side.
        deformation: scale of random rotation (15 degrees), zoom (15 %) and shift; 0 turns them off.
        stretch: most change of length along each axis in place of the zoom, of the whole and of parts against each
            other: bodies of another build, or voxels of another size than the header says.
        bias_correction: run N4 (SimpleITK) on each MR volume first.
        intensities: how the target's classes look; the classes of labelled training images are painted with random
            intensities, and with these once they are measured, before any augmentation but ``"none"``.
        pseudo_labels: of unlabelled training images; they go under ``"pseudo_label"``.
        references: images of the target that lend their appearance (see :class:`ReferencePool`).
        label_values: the value of each class in label maps, where it is not the class's number.
        channel_dropout: share of the training images of several channels that lose some of them.
        reading: how strictly the files are read; a configuration gives it by its fields.
        device: where random crops are deformed and change their looks.

    Raises:
        UserError: for a modality, stage or augmentation that does not exist, training without ``roi_size``, or an
            augmentation without the references that it needs.
    """
    _check(modality, stage, augmentation, roi_size)
    labelled = labelled and stage != "infer"
    keys = [Keys.IMAGE, Keys.LABEL] if labelled else [Keys.IMAGE]
    steps = _geometry(keys, spacing=spacing, reading=reading)
    if labelled:
        steps.insert(1, LabelClassesd(Keys.LABEL, label_values))
    if modality == "mr" and bias_correction:
        steps.insert(1, N4BiasCorrectiond(keys=Keys.IMAGE))
    if modality == "ct":
        steps += _ct_intensity(keys, window=window)
    else:
        steps += [Lambdad(keys=Keys.IMAGE, func=change) for change in (clip_to_foreground, standardise_foreground)]
    if labelled:
        # A slope in the header leaves 0.99999, which the cast alone would make background.
        steps.append(CastToTyped(keys=Keys.LABEL, dtype="uint8"))
    if stage == "train" and roi_size is not None:
        if pseudo_labels is not None and not labelled:
            steps.append(PseudoLabeld(PSEUDO_LABEL, pseudo_labels))
            keys = [*keys, PSEUDO_LABEL]
        steps += _random_crop(keys, roi_size)
        if torch.device(device).type != "cpu":
            # after the crop: whole volumes stay in the cache, in the memory of the CPU
            steps.append(ToDeviced(keys=keys, device=device))
        steps += _deformed(keys, spacing, deformation=deformation, stretch=stretch, flip_axes=flip_axes)
        if not labelled:
            steps.append(CopyItemsd(keys=Keys.IMAGE, names=WEAK))
        steps += appearance(augmentation, intensities=intensities if labelled else None, references=references)
        if channel_dropout:
            steps.append(RandChannelDropoutd(Keys.IMAGE, channel_dropout, fill=ABSENT[modality]))
    return Compose(steps)


def label_preset(
    *,
    spacing: Sequence[float],
    label_values: Sequence[int] | None = None,
    reading: Reading | Mapping[str, bool] = Reading(),  # noqa: B008 (frozen)
) -> Compose:
    """The label alone on the working grid, from a file to a tensor ``(1, *spatial)``; see :func:`preset`."""
    load, *grid = _geometry([Keys.LABEL], spacing=spacing, reading=reading)
    return Compose([load, LabelClassesd(Keys.LABEL, label_values), *grid, CastToTyped(keys=Keys.LABEL, dtype="uint8")])


def _geometry(
    keys: Sequence[str],
    *,
    spacing: Sequence[float],
    reading: Reading | Mapping[str, bool] = Reading(),  # noqa: B008 (frozen)
) -> list[Transform]:
    """Load, orient to RAS and resample to ``spacing`` in mm."""
    modes = ["bilinear" if key == Keys.IMAGE else "nearest" for key in keys]
    return [
        load_volumes(keys, reading=Reading(**reading) if isinstance(reading, Mapping) else reading),
        EnsureTyped(keys=keys),
        Orientationd(keys=keys, axcodes="RAS", labels=None),
        Spacingd(keys=keys, pixdim=list(spacing), mode=modes),
    ]


def _ct_intensity(keys: Sequence[str], *, window: Sequence[float]) -> list[Transform]:
    """HU window to ``[-1, 1]``, then crop to what is not air."""
    low, high = window
    return [
        ScaleIntensityRanged(keys=Keys.IMAGE, a_min=low, a_max=high, b_min=-1.0, b_max=1.0, clip=True),
        CropForegroundd(
            keys=keys,
            source_key=Keys.IMAGE,
            select_fn=above_air,
            allow_smaller=True,
            # the corners beside the image would be arrays in one case and tensors in the next, and no batch
            start_coord_key=None,
            end_coord_key=None,
        ),
    ]


def above_air(image: Tensor) -> Tensor:
    """Where a windowed CT, in ``[-1, 1]``, is not air."""
    return image > -1


def clip_to_foreground(image: Tensor) -> Tensor:
    """Clip each channel at the 99.5th percentile of its foreground, the voxels of at least mean intensity."""
    return cat([x.clamp(max=float(percentile(x[x >= x.mean()], 99.5))) for x in split(image, 1)])


def standardise_foreground(image: Tensor) -> Tensor:
    """Subtract from each channel its foreground's mean, and divide by the foreground's deviation."""
    seen = [(x, x[x >= x.mean()]) for x in split(image, 1)]
    return cat([(x - tissue.mean()) / tissue.std(correction=0).clamp(min=1e-6) for x, tissue in seen])


def _check(modality: str, stage: str, augmentation: str, roi_size: Sequence[int] | None) -> None:
    chosen = {"modality": (modality, Modality), "stage": (stage, Stage), "augmentation": (augmentation, Augmentation)}
    for name, (value, known) in chosen.items():
        if value not in get_args(known):
            raise UserError(f"{name} is {value!r}; choose one of {', '.join(get_args(known))}.")
    if stage == "train" and roi_size is None:
        raise UserError("The training preset needs roi_size, the size of the random crop in voxels.")


def _random_crop(keys: Sequence[str], roi_size: Sequence[int]) -> list[Transform]:
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


def _deformed(
    keys: Sequence[str], spacing: Sequence[float], *, deformation: float, stretch: float, flip_axes: Sequence[int]
) -> list[Transform]:
    """Random flips, stretches, rotation, zoom and shift, the same for the image and its labels; see ``preset``."""
    flips: list[Transform] = [RandFlipd(keys=keys, prob=0.5, spatial_axis=axis) for axis in flip_axes]
    if deformation == 0 and not stretch:
        return flips
    deform = RandDeformd(
        keys,
        prob=0.9 if deformation else 0.0,
        rotate=0.26 * deformation,
        scale=stretch or 0.15 * deformation,
        shift=4.0 * deformation,
        stretch=stretch,
        stretch_prob=_UNEVEN,
        cells=_CELLS,
        spacing=spacing,
        mode=["bilinear" if key == Keys.IMAGE else "nearest" for key in keys],
    )
    return [*flips, deform]


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
    # beside contrast curves too: with up to 0.5, in 7 of 10 images, abdomen MR -> CT loses 2 points of Dice
    shading = RandSmoothBiasd(keys=image, prob=0.3, std=(0.0, 0.3))
    common = [
        RandSimulateLowResolutiond(keys=image, prob=0.25, zoom_range=(0.5, 1.0)),
        RandGaussianSmoothd(keys=image, prob=0.2, sigma_x=(0.4, 0.9), sigma_y=(0.4, 0.9), sigma_z=(0.4, 0.9)),
        RandGaussianNoised(keys=image, prob=0.5, std=0.2),
    ]
    if augmentation == "gin":
        return [*painted, RandGINd(image, prob=_CURVED), *common]
    if augmentation == "modality":
        contrast = painted or [RandContrastCurved(keys=image, prob=_CURVED, knots=_KNOTS)]
        return [*contrast, shading, *common]
    mild = [*painted, RandScaleIntensityd(keys=image, prob=0.3, factors=0.15), shading, *common]
    if augmentation == "standard":
        return mild
    if references is None:
        raise UserError(f"The augmentation {augmentation} needs references, images of the target.")
    borrowed = RandFourierStyled if augmentation == "fourier" else RandHistogramMatchd
    return [borrowed(image, references, prob=_BORROWED), *mild]
