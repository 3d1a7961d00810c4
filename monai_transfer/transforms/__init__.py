"""What MONAI's transforms lack: modality-breaking augmentation, and the CT and MR presets."""

from monai_transfer.transforms.channel_dropout import RandChannelDropout, RandChannelDropoutd
from monai_transfer.transforms.class_intensity import RandClassIntensityd
from monai_transfer.transforms.deform import RandDeformd
from monai_transfer.transforms.fourier_style import RandFourierStyle, RandFourierStyled
from monai_transfer.transforms.gin import RandGIN, RandGINd
from monai_transfer.transforms.histogram_match import RandHistogramMatch, RandHistogramMatchd
from monai_transfer.transforms.joined_targets import JoinTargets
from monai_transfer.transforms.mind import MINDFeatures, MINDFeaturesd
from monai_transfer.transforms.mixed_examinations import MixExaminations
from monai_transfer.transforms.n4 import N4BiasCorrection, N4BiasCorrectiond
from monai_transfer.transforms.nnunet_intensity import nnunet_intensity
from monai_transfer.transforms.presets import label_preset, preset
from monai_transfer.transforms.random_intensity import (
    RandContrastCurve,
    RandContrastCurved,
    RandSmoothBias,
    RandSmoothBiasd,
)
from monai_transfer.transforms.reference_pool import ReferencePool
from monai_transfer.transforms.target import ClassIntensities, IntensityProfile, PseudoLabeld, PseudoLabels
from monai_transfer.volumes.monai_reader import LabelClassesd

__all__ = [
    "ClassIntensities",
    "IntensityProfile",
    "JoinTargets",
    "LabelClassesd",
    "MINDFeatures",
    "MINDFeaturesd",
    "MixExaminations",
    "N4BiasCorrection",
    "N4BiasCorrectiond",
    "PseudoLabeld",
    "PseudoLabels",
    "RandChannelDropout",
    "RandChannelDropoutd",
    "RandClassIntensityd",
    "RandContrastCurve",
    "RandContrastCurved",
    "RandDeformd",
    "RandFourierStyle",
    "RandFourierStyled",
    "RandGIN",
    "RandGINd",
    "RandHistogramMatch",
    "RandHistogramMatchd",
    "RandSmoothBias",
    "RandSmoothBiasd",
    "ReferencePool",
    "label_preset",
    "nnunet_intensity",
    "preset",
]
