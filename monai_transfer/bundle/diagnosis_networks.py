"""The networks that name a class, as a bundle's configuration writes them."""

from collections.abc import Mapping
from typing import Any

from monai_transfer.bundle.networks import LIGHT_RESNETS
from monai_transfer.errors import UserError

LIGHT_DIAGNOSIS = "light"
"""A ResNet-10 of a quarter of the width: learns in minutes on a CPU; of the catalogue ``shapes:resnet10`` fits it."""

_LIGHT = {LIGHT_DIAGNOSIS: LIGHT_RESNETS["resnet10_light"], **LIGHT_RESNETS}
"""Name of a light ResNet -> its depth; the encoder of the U-Net of the same name."""

_RESNETS: dict[int, tuple[str, tuple[int, ...]]] = {
    10: ("basic", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}
_VGGS = tuple(f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn"))
_DENSENETS = ("densenet121", "densenet169")
_CLASSES, _CHANNELS = ("num_classes", "out_channels"), ("n_input_channels", "in_channels")

DIAGNOSIS_NETWORKS = (*_LIGHT, *(f"resnet{depth}" for depth in _RESNETS), *_DENSENETS, *_VGGS)
"""What ``--network`` can name with ``--task diagnosis``."""


def diagnosis_network(name: str, *, classes: int, channels: int = 1, spatial_dims: int = 2) -> dict[str, Any]:
    """``network_def`` of a network whose tensors bear the names of the published weights.

    Args:
        name: one of :data:`DIAGNOSIS_NETWORKS`.
        classes: outputs.
        channels: input channels.
        spatial_dims: 2 or 3.

    Raises:
        UserError: when there is no network of that name.

    Example:
        >>> diagnosis_network("densenet121", classes=3)["_target_"]
        'DenseNet121'
    """
    require_diagnosis_network(name)
    if name in _VGGS:
        definition = {"_target_": "monai_transfer.networks.VGGClassifier", "backbone": name}
        return {**definition, "spatial_dims": spatial_dims, "in_channels": channels, "num_classes": classes}
    if name in _DENSENETS:
        target = name.replace("densenet", "DenseNet")
        return {"_target_": target, "spatial_dims": spatial_dims, "in_channels": channels, "out_channels": classes}
    light = name in _LIGHT
    depth = _LIGHT[name] if light else int(name.removeprefix("resnet"))
    block, layers = _RESNETS[depth]
    width = 16 if light else 64
    return {
        "_target_": "ResNet",
        "block": block,
        "layers": list(layers),
        "block_inplanes": [width, 2 * width, 4 * width, 8 * width],
        "spatial_dims": spatial_dims,
        "n_input_channels": channels,
        "conv1_t_size": 7,
        "conv1_t_stride": 2,  # as published; MONAI's own default of 1 takes eight times the memory
        # without pooling the last feature maps are fine enough to say where something is seen
        "no_max_pool": light,
        "num_classes": classes,
        # MedicalNet's shallow networks pad their shortcuts with zeros, torchvision's have convolutions
        "shortcut_type": "A" if spatial_dims == 3 and depth in (18, 34) and not light else "B",
        "bias_downsample": False,
    }


def with_outputs(definition: Mapping[str, Any], *, classes: int, channels: int) -> dict[str, Any]:
    """The same network for other classes and channels, whatever its arguments call them."""
    changed = dict(definition)
    for names, value in ((_CLASSES, classes), (_CHANNELS, channels)):
        changed.update({name: value for name in names if name in definition})
    return changed


def require_diagnosis_network(name: str) -> None:
    """See that ``--network`` names a network that can name a class.

    Raises:
        UserError: it does not.
    """
    if name not in DIAGNOSIS_NETWORKS:
        raise UserError(f"--network {name} is not known for diagnosis: choose one of {', '.join(DIAGNOSIS_NETWORKS)}.")
