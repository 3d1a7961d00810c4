"""What a bundle of somebody else may ask for without a question: names and expressions that cannot run foreign code.

MONAI's parser calls whatever ``_target_`` names and evaluates every text that begins with ``$``. Nearly all of what
bundles need are networks, transforms and inferers of MONAI with plain arguments, and a handful of expressions. Those
are listed here one by one; everything else is a concern that the user decides about.
"""

import inspect
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from monai_transfer.bundle.trust import templates
from monai_transfer.text import is_literal

_EXPRESSIONS = re.compile(
    r"\$(?:-?\d{1,18}(?:\.\d{1,18})?(?:[eE]-?\d{1,3})?"  # a number
    r"|@\w+(?:(?:#|::)\w+)*"  # a part of the configuration, by its name
    r"|numpy\.u?int(?:8|16|32)"  # what label maps are written as
    r"|torch\.device\('(?:cpu|cuda(?::\d{1,2})?)'\)"
    r"|len\(@\w+(?:(?:#|::)\w+)*\))"  # how many entries it has
)

_BY_NAME = ("TorchVision", "RandTorchVision", "TorchIO", "RandTorchIO", "CuCIM", "RandCuCIM")
"""Beginnings of transforms that look up, in another library, whatever an argument names."""

_WRITERS = ("SaveImage", "SaveClassification", "WriteFileMapping")
"""Beginnings of transforms that write where an argument says; SaveImage is let through with the bundle's own folder."""

# fmt: off
_NETWORKS = (
    "AHNet", "AttentionUnet", "AutoEncoder", "BasicUNet", "BasicUNetPlusPlus", "BasicUnet", "BasicUnetPlusPlus",
    "DenseNet", "DenseNet121", "DenseNet169", "DynUNet", "DynUnet", "FlexibleUNet", "FlexUNet", "HighResNet",
    "MedNeXt", "RegUNet", "ResNet", "SegResNet", "SegResNetDS", "SegResNetDS2", "SegResNetVAE", "SwinUNETR", "UNETR",
    "UNet", "Unet", "VNet", "ViT", "VoxelMorphUNet",
)
# fmt: on
"""Networks built from numbers and the names of MONAI's own layers, that fetch nothing while ``pretrained`` is off."""

_INFERERS = ("SimpleInferer", "SliceInferer", "SlidingWindowInferer", "SlidingWindowInfererAdapt", "SaliencyInferer")
"""Not PatchInferer: it imports whatever ``merger_cls`` names."""

_PARTS = {
    "monai.data": ("Dataset", "DataLoader"),
    "monai.engines": ("SupervisedEvaluator",),
    "monai.handlers": (
        "CheckpointLoader",
        "ClassificationSaver",
        "StatsHandler",
    ),  # CheckpointLoader reads tensors alone (weights_only)
    "monai_transfer.inference": ("StreamingInferer",),
    "monai_transfer.networks": (
        "AllConvUNet",
        "FlexibleUNet",
        "LightResNetUNet",
        "MINDUNet",
        "MeshNet",
        "StemmedUNet",
        "StructureUNet",
        "VGGClassifier",
    ),
    "torch": ("device",),
}

SECOND_CHECKPOINT = "$str(pathlib.Path(@bundle_root) / 'models' / 'diagnosis.pt')"
"""Where the network that names classes of a bundle of two tasks lies."""

IN_A_ROW = "$torch.nn.Sequential(*@layers)"
"""The network that names classes by pooling what a U-Net finds; a ``_target_`` takes no arguments without names."""

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "_mode_": ("default",),  # "debug" starts a debugger, "callable" hands out the function itself
    "reader": (None, "NibabelReader", "ITKReader", "NrrdReader", "PILReader"),  # any other name is imported
    "writer": (None, "NibabelWriter", "ITKWriter", "PILWriter"),
    "merger_cls": (None, "avg"),
    "pretrained": (None, False),  # else weights are fetched from the network
    "pretrained_url": (None,),
    "output_dir": (None, "@output_dir", "$str(pathlib.Path(@bundle_root) / 'eval')"),  # else written anywhere
    "filename": (None, "predictions.csv"),  # else written anywhere
    "saver": (None,),
    "folder_layout": (None,),
    "mapping_file_path": (None,),
}
"""Arguments that name code, addresses or places -> the values that are harmless."""


@lru_cache(maxsize=1)
def allowed_targets() -> frozenset[str]:
    """Every ``_target_`` that a foreign bundle may name: in full, and by the short name that MONAI resolves."""
    import monai.inferers
    import monai.networks.nets
    import monai.transforms
    import torch.nn

    import monai_transfer.transforms

    transforms = [
        *_classes(monai.transforms, monai.transforms.Transform),
        *_classes(monai_transfer.transforms, monai.transforms.Transform),
    ]
    names: set[str] = set()
    for component in transforms:
        if not component.__name__.startswith((*_BY_NAME, *_WRITERS[1:])):
            names |= _names_of(component, component.__module__.split(".")[0] + ".transforms")
    for network in _NETWORKS:
        names |= _names_of(getattr(monai.networks.nets, network), "monai.networks.nets") | {network}
    for inferer in _INFERERS:
        names |= _names_of(getattr(monai.inferers, inferer), "monai.inferers")
    for layer in _classes(torch.nn, torch.nn.Module):
        names.add(f"torch.nn.{layer.__name__}")  # without a short name: MONAI resolves its own alone
    for module, parts in _PARTS.items():
        names |= {f"{module}.{part}" for part in parts}
        names |= set(parts) if module.startswith("monai") else set()
    return frozenset(names)


@lru_cache(maxsize=1)
def allowed_expressions() -> frozenset[str]:
    """The exact expressions of the packaged bundles' inference, which every bundle that is made here has too."""
    from monai_transfer.bundle.config_parts import mr_intensity_config  # here: it imports the presets

    found: set[str] = set()
    for folder in templates().values():
        config = json.loads((folder / "configs" / "inference.json").read_text(encoding="utf-8"))
        found |= {text for _, text in _texts(config, "") if text.startswith("$")}
    found |= {step["func"] for step in mr_intensity_config(2)}  # no packaged bundle has several channels
    found |= {IN_A_ROW, SECOND_CHECKPOINT}
    return frozenset(found)


def concerns_of(config: Any, where: str) -> list[str]:
    """What of a configuration is outside the lists of this file, one line each; nothing is evaluated to tell.

    Args:
        config: the parsed configuration, or a part of it.
        where: the file or part that the lines name.

    Example:
        >>> concerns_of({"network_def": {"_target_": "os.system", "command": "true"}}, "inference.json")
        ['inference.json, network_def: calls os.system']
    """
    found = []
    for place, mapping in _mappings(config, ""):
        at = f"{where}, {place}" if place else where
        if "_target_" in mapping and not _is_allowed_target(mapping["_target_"]):
            found.append(f"{at}: calls {_shown(mapping['_target_'])}")
        if "_requires_" in mapping:
            found.append(f"{at}: first runs {_shown(mapping['_requires_'])}")
        for name, value in mapping.items():
            if name.startswith(("$", "@", "%")):
                found.append(f"{at}: has the name {_shown(name)}")
            if name in _ARGUMENTS and not any(value is one or value == one for one in _ARGUMENTS[name]):
                found.append(f"{at}: sets {name} to {_shown(value)}")
    for place, text in _texts(config, ""):
        if text.startswith("$") and not is_allowed_expression(text):
            verb = "imports by" if text.lstrip("$ ").startswith(("import ", "from ")) else "evaluates"
            found.append(f"{where}, {place}: {verb} {_shown(text[1:])}")
        elif text.startswith("%") and re.fullmatch(r"%(?:#|::|\w)+", text) is None:
            found.append(f"{where}, {place}: takes in another file, {_shown(text[1:])}")
    return found


def is_allowed_expression(text: str) -> bool:
    """Whether a text that begins with ``$`` is one that may be evaluated without a question."""
    return is_literal(text) or _EXPRESSIONS.fullmatch(text) is not None or text in allowed_expressions()


def _is_allowed_target(target: Any) -> bool:
    return isinstance(target, str) and target in allowed_targets()


def _classes(module: ModuleType, kind: type) -> list[type]:
    public = {name: member for name, member in vars(module).items() if not name.startswith("_")}
    return [member for member in public.values() if inspect.isclass(member) and issubclass(member, kind)]


def _names_of(component: type, room: str) -> set[str]:
    """The names of a class: where it is defined, where its room offers it, and the short one."""
    name = component.__name__
    return {f"{component.__module__}.{name}", f"{room}.{name}", name}


def _mappings(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield place, value
    for name, item in _items(value):
        yield from _mappings(item, f"{place}#{name}".lstrip("#"))


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    for name, item in _items(value):
        if name not in ("_target_", "_requires_"):  # these have lines of their own
            yield from _texts(item, f"{place}#{name}".lstrip("#"))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


def _shown(value: Any) -> str:
    """At most a line of it, without what would move the cursor of a terminal."""
    text = value if isinstance(value, str) else repr(value)
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= 160 else f"{line[:157]}…"
