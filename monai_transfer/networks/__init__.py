"""What MONAI's networks lack: backbones, gradient reversal, discriminators and the feature tap."""

# MONAI's own, for definitions whose encoder it knows once this package is imported
from monai.networks.nets import FlexibleUNet as FlexibleUNet

from monai_transfer.networks.all_conv_unet import AllConvUNet
from monai_transfer.networks.channels_last import ChannelsLast, mixed_precision
from monai_transfer.networks.densenet import DenseNetEncoder
from monai_transfer.networks.discriminators import PatchDomainDiscriminator, PooledDiscriminator
from monai_transfer.networks.feature_tap import decoder_layers, feature_channels, feature_layers, tap
from monai_transfer.networks.gradient_reversal import GradientReversal
from monai_transfer.networks.levels import encoder_levels, names_of, network_levels
from monai_transfer.networks.light_resnet import LightResNetEncoder, LightResNetUNet
from monai_transfer.networks.meshnet import MeshNet
from monai_transfer.networks.mind import MINDUNet, mind_descriptor
from monai_transfer.networks.shortcuts import ZeroPaddedShortcut, exportable
from monai_transfer.networks.stems import StemmedUNet
from monai_transfer.networks.structure import StructureUNet
from monai_transfer.networks.translation import PatchProjection, TranslationGenerator
from monai_transfer.networks.two_heads import TwoHeads
from monai_transfer.networks.vgg import VGGEncoder
from monai_transfer.networks.vgg_classifier import VGGClassifier

__all__ = [
    "AllConvUNet",
    "ChannelsLast",
    "DenseNetEncoder",
    "GradientReversal",
    "LightResNetEncoder",
    "LightResNetUNet",
    "MINDUNet",
    "MeshNet",
    "PatchDomainDiscriminator",
    "PatchProjection",
    "PooledDiscriminator",
    "StemmedUNet",
    "StructureUNet",
    "TranslationGenerator",
    "TwoHeads",
    "VGGClassifier",
    "VGGEncoder",
    "ZeroPaddedShortcut",
    "decoder_layers",
    "encoder_levels",
    "exportable",
    "feature_channels",
    "feature_layers",
    "mind_descriptor",
    "mixed_precision",
    "names_of",
    "network_levels",
    "tap",
]
