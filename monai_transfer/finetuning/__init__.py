"""How a pretrained network is trained on: what is frozen, at which rates, and how far it may drift."""

from monai_transfer.finetuning.average import AverageWithStart, ExactFrozenAverage
from monai_transfer.finetuning.batch_norm import BatchNormPolicy
from monai_transfer.finetuning.dropout import set_decoder_dropout
from monai_transfer.finetuning.early_stop import EarlyStop
from monai_transfer.finetuning.freezing import freeze, trainable_levels, unfreeze
from monai_transfer.finetuning.l2sp import L2SP
from monai_transfer.finetuning.parameter_groups import parameter_groups
from monai_transfer.finetuning.rate_log import LearningRateLog, LevelRate, level_rates
from monai_transfer.finetuning.start import kernel_lengths, restore_lengths, start_from
from monai_transfer.finetuning.unfreezing import GradualUnfreezing

__all__ = [
    "L2SP",
    "AverageWithStart",
    "BatchNormPolicy",
    "EarlyStop",
    "ExactFrozenAverage",
    "GradualUnfreezing",
    "LearningRateLog",
    "LevelRate",
    "freeze",
    "kernel_lengths",
    "level_rates",
    "parameter_groups",
    "restore_lengths",
    "set_decoder_dropout",
    "start_from",
    "trainable_levels",
    "unfreeze",
]
