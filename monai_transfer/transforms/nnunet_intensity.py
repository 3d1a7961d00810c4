"""The intensity augmentation of nnU-Net, in MONAI's transforms."""

from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
)


def nnunet_intensity(keys: KeysCollection, *, spatial_dims: int = 3) -> Compose:
    """Noise, blur, brightness, contrast, low resolution, inverted gamma and gamma, as nnU-Net trains by default.

    Probabilities and ranges are nnU-Net's. On the benchmark M3DA this set alone is among the strongest baselines of
    adaptation. Isensee et al., *nnU-Net*, Nature Methods 2021.

    Args:
        keys: the images; all share the draws.
        spatial_dims: 2 or 3.
    """
    sigma = (0.5, 1.0)
    return Compose(
        [
            RandGaussianNoised(keys, prob=0.1, std=0.1**0.5),
            RandGaussianSmoothd(keys, prob=0.2, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
            RandScaleIntensityd(keys, prob=0.15, factors=0.25),
            RandScaleIntensityFixedMeand(keys, prob=0.15, factors=0.25, preserve_range=True),
            RandSimulateLowResolutiond(
                keys, prob=0.25, zoom_range=(0.5, 1.0), upsample_mode="bilinear" if spatial_dims == 2 else "trilinear"
            ),
            RandAdjustContrastd(keys, prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            RandAdjustContrastd(keys, prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        ]
    )
