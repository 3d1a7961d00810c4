"""Pure functions of tensors: domain losses, entropy, correlation, discrepancy, consistency, label-free scores."""

from monai_transfer.losses.consistency import probability_mse, pseudo_label_loss, soft_cross_entropy
from monai_transfer.losses.coral import coral_loss
from monai_transfer.losses.diagnosis import DiagnosisLoss
from monai_transfer.losses.domain import DomainLossKind, domain_loss
from monai_transfer.losses.entropy import entropy_loss, self_information
from monai_transfer.losses.label_free import class_dice, information_score, label_agreement, soft_neighbourhood_density
from monai_transfer.losses.mmd import mmd_loss
from monai_transfer.losses.patch_nce import patch_nce_loss
from monai_transfer.losses.proportions import size_divergence
from monai_transfer.losses.samples import voxel_samples
from monai_transfer.losses.supervised import ClassBalancedDiceCELoss
from monai_transfer.losses.two_tasks import TwoTaskLoss
from monai_transfer.losses.voxel_contrast import voxel_contrast

__all__ = [
    "ClassBalancedDiceCELoss",
    "DiagnosisLoss",
    "DomainLossKind",
    "TwoTaskLoss",
    "class_dice",
    "coral_loss",
    "domain_loss",
    "entropy_loss",
    "information_score",
    "label_agreement",
    "mmd_loss",
    "patch_nce_loss",
    "probability_mse",
    "pseudo_label_loss",
    "self_information",
    "size_divergence",
    "soft_cross_entropy",
    "soft_neighbourhood_density",
    "voxel_contrast",
    "voxel_samples",
]
