"""Domain adaptation, one method per file."""

from monai_transfer.adaptation.adabn import AdaBN
from monai_transfer.adaptation.advent import AdvEnt
from monai_transfer.adaptation.anatomy import correct_by_anatomy, correct_new_scan, separation, stretch_by_builds
from monai_transfer.adaptation.cdan import CDAN
from monai_transfer.adaptation.dann import DANN
from monai_transfer.adaptation.deep_coral import DeepCORAL
from monai_transfer.adaptation.domain_specific_batch_norm import DomainSpecificBatchNorm
from monai_transfer.adaptation.entropy_minimization import EntropyMinimization
from monai_transfer.adaptation.foreground_prior import ForegroundPrior
from monai_transfer.adaptation.label_atlas import LabelAtlas
from monai_transfer.adaptation.mean_teacher import MeanTeacher
from monai_transfer.adaptation.method import SOURCE, TARGET, AdaptationMethod, Batch, Outputs
from monai_transfer.adaptation.mmd import MMD
from monai_transfer.adaptation.output_adversarial import OutputAdversarial
from monai_transfer.adaptation.refinement import refine_probabilities, without_bias
from monai_transfer.adaptation.self_training import SelfTraining
from monai_transfer.adaptation.source_only import SourceOnly
from monai_transfer.adaptation.test_time import AdaptedNetwork, random_patches, recalibrate_norm, tent
from monai_transfer.adaptation.translation import UnpairedTranslation
from monai_transfer.adaptation.view_consistency import view_consistency

__all__ = [
    "CDAN",
    "DANN",
    "MMD",
    "SOURCE",
    "TARGET",
    "AdaBN",
    "AdaptationMethod",
    "AdaptedNetwork",
    "AdvEnt",
    "Batch",
    "DeepCORAL",
    "DomainSpecificBatchNorm",
    "EntropyMinimization",
    "ForegroundPrior",
    "LabelAtlas",
    "MeanTeacher",
    "OutputAdversarial",
    "Outputs",
    "SelfTraining",
    "SourceOnly",
    "UnpairedTranslation",
    "correct_by_anatomy",
    "correct_new_scan",
    "random_patches",
    "recalibrate_norm",
    "refine_probabilities",
    "separation",
    "stretch_by_builds",
    "tent",
    "view_consistency",
    "without_bias",
]
