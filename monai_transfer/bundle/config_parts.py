"""Parts that the configurations of several bundles share: values by id, names of data, inference in plain MONAI."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import Plan
from monai_transfer.datasets import CaseDataset
from monai_transfer.options import Precision
from monai_transfer.text import literal
from monai_transfer.transforms.presets import Modality

_PERCENTILE = "monai.transforms.utils_pytorch_numpy_unification.percentile"

_PRESETS = (
    "monai_transfer.transforms.preset",
    "monai_transfer.transforms.label_preset",
    "monai_transfer.pretraining.masked_preset",
)
"""What reads a training's files."""


def inference_config(plan: Plan, modality: Modality, channels: int, template: Mapping[str, Any]) -> dict[str, Any]:
    """Ids and values of ``inference.json``.

    Args:
        plan: the choices.
        modality: of the images to segment.
        channels: of the images.
        template: the configuration that the values are for.
    """
    changes: dict[str, Any] = {
        "network_def": network_definition(plan.network, classes=plan.classes, channels=channels),
        "preprocessing#transforms": inference_preprocessing(
            modality, spacing=plan.spacing, window=plan.window, channels=channels
        ),
        "inferer#roi_size": list(plan.roi_size),
    }
    values = sorted(plan.label_names)
    *steps, save = template["postprocessing"]["transforms"]
    if plan.single_pieces:
        largest = {
            "_target_": "KeepLargestConnectedComponentd",
            "keys": "pred",
            "is_onehot": False,
            "independent": True,
        }
        steps.append({**largest, "applied_labels": [values.index(value) for value in plan.single_pieces]})
    if plan.label_values is not None:
        outputs = list(range(plan.classes))
        steps.append({"_target_": "MapLabelValued", "keys": "pred", "orig_labels": outputs, "target_labels": values})
        save = {**save, "output_dtype": "$numpy.uint8" if max(values) < 256 else "$numpy.uint16"}
    return {**changes, "postprocessing#transforms": [*steps, save]}


def metadata_config(plan: Plan, modality: Modality, channel_names: Sequence[str]) -> dict[str, Any]:
    """Ids and values of ``metadata.json``.

    Args:
        plan: the choices.
        modality: of the images to segment.
        channel_names: of the images.
    """
    image = "network_data_format#inputs#image"
    pred = "network_data_format#outputs#pred"
    shape, channels = list(plan.roi_size), len(channel_names)
    changes = {
        f"{image}#format": "hounsfield" if modality == "ct" else "magnitude",
        f"{image}#modality": modality.upper(),
        f"{image}#num_channels": channels,
        f"{image}#spatial_shape": shape,
        f"{image}#value_range": [-1, 1] if modality == "ct" else [-10, 10],
        f"{image}#channel_def": channel_definition(channel_names),
        f"{pred}#num_channels": plan.classes,
        f"{pred}#spatial_shape": shape,
        f"{pred}#channel_def": {str(number): literal(name) for number, name in plan.class_names.items()},
        "image_classes": f"{channels}-channel {modality.upper()} volume",
        "data_source": "the user's own",
    }
    if plan.label_values is not None:
        changes["label_values"] = plan.label_values
    return changes


def precision_config(precision: Precision, device: torch.device) -> dict[str, Any]:
    """Values of ``train.json`` for the passes of the network in training; none where the template's are those.

    The template autocasts on a GPU, in float16, and computes in float32 elsewhere.
    """
    if precision == ("float16" if device.type == "cuda" else "float32"):
        return {}
    changes: dict[str, Any] = {"amp": precision != "float32"}
    if device.type == "cuda" and precision == "bfloat16":
        changes["train#trainer#amp_kwargs"] = {"dtype": "$torch.bfloat16"}
    return changes


def channel_definition(names: Sequence[str]) -> dict[str, str]:
    """``channel_def`` of the images: their modalities where there are several."""
    return {str(number): literal(name) for number, name in enumerate(names)} if len(names) > 1 else {"0": "image"}


def inference_preprocessing(
    modality: Modality, *, spacing: tuple[float, ...], window: tuple[float, float], channels: int = 1
) -> list[dict[str, Any]]:
    """The preset of :mod:`monai_transfer.transforms.presets` for inference, spelled out in MONAI's transforms alone."""
    loading: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image"},
        # a step of its own: MONAI Deploy reads images itself and leaves the loading out
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
    ]
    return loading + preprocessing_once_loaded(modality, spacing=spacing, window=window, channels=channels)


def preprocessing_once_loaded(
    modality: Modality, *, spacing: tuple[float, ...], window: tuple[float, float], channels: int = 1
) -> list[dict[str, Any]]:
    """What :func:`inference_preprocessing` does with an image ``(C, *spatial)``, however that was loaded."""
    geometry: list[dict[str, Any]] = [
        {"_target_": "EnsureTyped", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(spacing), "mode": "bilinear"},
    ]
    return geometry + (_ct_intensity(window) if modality == "ct" else mr_intensity_config(channels))


def _ct_intensity(window: tuple[float, float]) -> list[dict[str, Any]]:
    low, high = window
    scale = {"a_min": low, "a_max": high, "b_min": -1.0, "b_max": 1.0, "clip": True}
    crop = {"source_key": "image", "select_fn": "$lambda x: x > -1", "allow_smaller": True}
    return [
        {"_target_": "ScaleIntensityRanged", "keys": "image", **scale},
        {"_target_": "CropForegroundd", "keys": "image", **crop},
    ]


def mr_intensity_config(channels: int) -> list[dict[str, Any]]:
    """Clipping and z-score by the foreground, of each channel by itself where there are several."""
    foreground = "x[x >= x.mean()]"
    clip = f"x.clamp(max=float({_PERCENTILE}({foreground}, 99.5)))"
    scale = f"(x - {foreground}.mean()) / {foreground}.std(correction=0).clamp(min=1e-6)"
    if channels > 1:
        clip, scale = (f"torch.cat([{each} for x in x.split(1)])" for each in (clip, scale))
    return [{"_target_": "Lambdad", "keys": "image", "func": f"$lambda x: {each}"} for each in (clip, scale)]


def with_values(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with values set by id.

    Example:
        >>> with_values({"train": {"steps": [1, 2]}}, {"train#steps#0": 5, "seed": 3})
        {'train': {'steps': [5, 2]}, 'seed': 3}
    """
    changed = copy.deepcopy(dict(content))
    for name, value in changes.items():
        *parents, last = name.split("#")
        place: Any = changed
        for key in parents:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = value
    return changed


def folder_of(cases: CaseDataset) -> str:
    """Where a data set lies, for a configuration."""
    return literal(str(cases.root.resolve()))


def case_names(cases: CaseDataset) -> list[str]:
    """The names of the cases, for a configuration, which selects them as they are and not as patterns."""
    return [literal(name) for name in cases.names]


def read_by(content: Any, cases: CaseDataset) -> Any:
    """The same, its presets reading files as the cases ask for; only what differs from the default is written."""
    given = {name: value for name, value in asdict(cases.reading).items() if value}
    if not given:
        return content
    if isinstance(content, list):
        return [read_by(each, cases) for each in content]
    if not isinstance(content, dict):
        return content
    changed = {name: read_by(each, cases) for name, each in content.items()}
    return {**changed, "reading": given} if content.get("_target_") in _PRESETS else changed


def class_names(definitions: Sequence[dict[str, Any]]) -> list[str]:
    """Class names of adaptation methods."""
    return [str(definition["_target_"]).rpartition(".")[2] for definition in definitions]
