"""Writes a plan into the configurations of a bundle."""

from typing import Any

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import Plan
from monai_transfer.transforms.presets import Modality

_PERCENTILE = "monai.transforms.utils_pytorch_numpy_unification.percentile"


def fill_supervised(bundle: BundleFolder, plan: Plan, *, channels: int = 1) -> None:
    """Write ``plan`` into a copy of ``segmentation_transfer``."""
    bundle.change("train", {**_training(plan, channels), "modality": plan.source_modality})
    _fill_inference(bundle, plan, plan.source_modality, channels)
    _fill_metadata(bundle, plan, plan.source_modality, channels)


def fill_adaptation(bundle: BundleFolder, plan: Plan, *, channels: int = 1) -> None:
    """Write ``plan`` into a copy of ``domain_adaptation``; its inference is the target's."""
    modalities = {"source_modality": plan.source_modality, "target_modality": plan.target_modality}
    schedule = {
        "measure_from": plan.steps // 4,
        "label_from": plan.steps * 11 // 20,
        "teach_from": plan.steps * 3 // 5,
        "teach_ramp": plan.steps // 10,
        "warm_up": plan.steps // 10,
        "ramp": plan.steps * 3 // 10,
    }
    bundle.change("train", {**_training(plan, channels), **modalities, **schedule})
    _fill_inference(bundle, plan, plan.target_modality, channels)
    _fill_metadata(bundle, plan, plan.target_modality, channels)


def inference_preprocessing(
    modality: Modality, *, spacing: tuple[float, ...], window: tuple[float, float]
) -> list[dict[str, Any]]:
    """The preset of :mod:`monai_transfer.transforms.presets` for inference, spelled out in MONAI's transforms alone."""
    geometry: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "EnsureTyped", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(spacing), "mode": "bilinear"},
    ]
    return geometry + (_ct_intensity(window) if modality == "ct" else _mr_intensity())


def _ct_intensity(window: tuple[float, float]) -> list[dict[str, Any]]:
    low, high = window
    scale = {"a_min": low, "a_max": high, "b_min": -1.0, "b_max": 1.0, "clip": True}
    crop = {"source_key": "image", "select_fn": "$lambda x: x > -1", "allow_smaller": True}
    return [
        {"_target_": "ScaleIntensityRanged", "keys": "image", **scale},
        {"_target_": "CropForegroundd", "keys": "image", **crop},
    ]


def _mr_intensity() -> list[dict[str, Any]]:
    clip = f"$lambda x: x.clamp(max=float({_PERCENTILE}(x[x >= x.mean()], 99.5)))"
    foreground = "x[x >= x.mean()]"
    scale = f"$lambda x: (x - {foreground}.mean()) / {foreground}.std(correction=0).clamp(min=1e-6)"
    return [
        {"_target_": "Lambdad", "keys": "image", "func": clip},
        {"_target_": "Lambdad", "keys": "image", "func": scale},
    ]


def _training(plan: Plan, channels: int) -> dict[str, Any]:
    epochs, steps = plan.epochs
    return {
        "seed": plan.seed,
        "labels": _names(plan),
        "spacing": list(plan.spacing),
        "roi_size": list(plan.roi_size),
        "window": list(plan.window),
        "network_def": network_definition(plan.network, classes=plan.classes, channels=channels),
        "max_epochs": epochs,
        "steps_per_epoch": steps,
        "val_interval": max(1, epochs // 6),
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
    }


def _fill_inference(bundle: BundleFolder, plan: Plan, modality: Modality, channels: int) -> None:
    transforms = inference_preprocessing(modality, spacing=plan.spacing, window=plan.window)
    changes = {
        "network_def": network_definition(plan.network, classes=plan.classes, channels=channels),
        "preprocessing#transforms": transforms,
        "inferer#roi_size": list(plan.roi_size),
    }
    bundle.change("inference", changes)


def _fill_metadata(bundle: BundleFolder, plan: Plan, modality: Modality, channels: int) -> None:
    image = "network_data_format#inputs#image"
    pred = "network_data_format#outputs#pred"
    shape = list(plan.roi_size)
    changes = {
        f"{image}#format": "hounsfield" if modality == "ct" else "magnitude",
        f"{image}#modality": modality.upper(),
        f"{image}#num_channels": channels,
        f"{image}#spatial_shape": shape,
        f"{image}#value_range": [-1, 1] if modality == "ct" else [-10, 10],
        f"{image}#channel_def": {str(channel): "image" for channel in range(channels)},
        f"{pred}#num_channels": plan.classes,
        f"{pred}#spatial_shape": shape,
        f"{pred}#channel_def": _names(plan),
        "image_classes": f"{channels}-channel {modality.upper()} volume",
        "data_source": "the user's own",
    }
    if plan.network.startswith(("vgg", "densenet")):
        packages = bundle.read("metadata")["required_packages_version"]
        changes["required_packages_version"] = {**packages, "monai-transfer": bundle.read("metadata")["version"]}
    bundle.change("metadata", changes)


def _names(plan: Plan) -> dict[str, str]:
    return {str(value): name for value, name in sorted(plan.label_names.items())}
