"""From a plan and examinations to the configurations of a bundle that names a class."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from monai_transfer.bundle.config_parts import preprocessing_once_loaded, with_values
from monai_transfer.bundle.configs import VALIDATIONS, Configs, template_config
from monai_transfer.bundle.diagnosis_plan import DiagnosisPlan, ImageKind
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import ExamDataset
from monai_transfer.text import literal

TEMPLATE = "diagnosis_transfer"

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's published weights expect of red, green and blue between 0 and 1."""

GREY_MEAN, GREY_STD = 0.449, 0.226
"""The same for a grey channel, whose first convolution is the sum of the three."""


def diagnosis_configs(
    plan: DiagnosisPlan,
    training: ExamDataset,
    validation: ExamDataset,
    *,
    definition: Mapping[str, Any],
    strategy: Strategy,
    weights: str = "",
    every_epoch: bool = False,
) -> Configs:
    """A training for diagnosis: its configurations, and the overlay ``finetune``.

    Args:
        plan: the choices.
        training: labelled examinations to learn from.
        validation: labelled examinations to watch.
        definition: ``network_def``.
        strategy: what is frozen, when it is freed, and what holds the weights back.
        weights: SPEC of the weights, empty for a training from scratch.
        every_epoch: whether to validate after each epoch.
    """
    names = [literal(name) for name in plan.class_names]
    transforms = image_transforms(plan)
    template = template_config(TEMPLATE, "train")
    changes = {
        **_training_values(plan, names, every_epoch=every_epoch),
        "dataset_dir": literal(str(training.root.resolve())),
        "train_cases": [literal(name) for name in training.names],
        "validation_cases": [literal(name) for name in validation.names],
        "class_weights": class_weights(training) if plan.class_weights == "balanced" else None,
        "network_def": dict(definition),
        "image_transforms": transforms,
        "random_transforms": _random_transforms(template["random_transforms"], plan.spatial_dims),
    }
    overlay = {
        **strategy.as_config(),
        "weights": literal(weights),
        "learning_rate": plan.learning_rate,
        "validation_dir": literal(str(validation.root.resolve())),
        "validation_cases": [literal(name) for name in validation.names],
    }
    return {
        "train": with_values(template, changes),
        "finetune": with_values(template_config(TEMPLATE, "finetune"), overlay),
        "inference": _inference(plan, definition, names, transforms),
        "metadata": _metadata(plan, names),
    }


def _training_values(plan: DiagnosisPlan, names: Sequence[str], *, every_epoch: bool) -> dict[str, Any]:
    """Ids and values of ``train.json`` that the plan alone decides."""
    epochs, steps = plan.epochs
    return {
        "seed": plan.seed,
        "class_names": list(names),
        "exclusive": plan.exclusive,
        "in_channels": plan.channels,
        "size": list(plan.shape),
        "spacing": list(plan.spacing),
        "window": list(plan.window),
        "focal": plan.focal,
        "label_smoothing": plan.label_smoothing,
        "mixup": plan.mixup,
        "max_epochs": epochs,
        "steps_per_epoch": steps,
        "val_interval": 1 if every_epoch else max(1, epochs // VALIDATIONS),
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
    }


def diagnosis_adaptation(
    configs: Configs,
    plan: DiagnosisPlan,
    target: ExamDataset,
    *,
    kind: ImageKind,
    definition: Mapping[str, Any],
    methods: Sequence[Mapping[str, Any]],
) -> Configs:
    """The same training with images of a target: the overlay ``adapt``, and an inference that prepares the target's.

    Args:
        configs: of the training on the source, see :func:`diagnosis_configs`.
        plan: its choices.
        target: examinations to adapt to; their labels are put away.
        kind: of their images.
        definition: ``network_def``.
        methods: definitions of adaptation methods; without any the overlay is left out (source-only).
    """
    names = [literal(name) for name in plan.class_names]
    there = replace(plan, kind=kind)
    transforms = image_transforms(there)
    changed = {**configs, "inference": _inference(there, definition, names, transforms)}
    changed["metadata"] = _metadata(there, names)
    if methods:
        changes = {
            "target_dir": literal(str(target.root.resolve())),
            "target_cases": [literal(name) for name in target.names],
            "target_image_transforms": transforms,
            "methods#modules": [_for_diagnosis(method) for method in methods],
        }
        changed["adapt"] = with_values(template_config(TEMPLATE, "adapt"), changes)
    return changed


def _for_diagnosis(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A method's definition with this bundle's names for the number of classes and of axes."""
    names = {"$len(@labels)": "$len(@class_names)", "$len(@roi_size)": "$len(@size)"}
    return {key: names.get(value, value) if isinstance(value, str) else value for key, value in definition.items()}


def class_weights(exams: ExamDataset) -> list[float]:
    """Weights under which every class counts alike: of classes n / (K n_k), of findings absent / present cases."""
    counts = list(exams.counts.values())
    if exams.exclusive:
        return [round(len(exams) / (len(counts) * max(count, 1)), 4) for count in counts]
    targets = [exam.target for exam in exams.exams if exam.target is not None]
    absent = [sum(target[number] == 0 for target in targets) for number in range(len(counts))]
    return [round(max(a, 1) / max(count, 1), 4) for a, count in zip(absent, counts, strict=True)]


def image_transforms(plan: DiagnosisPlan) -> list[dict[str, Any]]:
    """What follows the reading, in MONAI's transforms alone; the same in training and inference."""
    fit = {
        "_target_": "ResizeWithPadOrCropd",
        "keys": "image",
        "spatial_size": list(plan.shape),
        "mode": "minimum",  # air, whatever the intensities are
    }
    if plan.kind != "picture":
        return [*preprocessing_once_loaded(plan.kind, spacing=plan.spacing, window=plan.window), fit]
    template: list[dict[str, Any]] = template_config(TEMPLATE, "train")["image_transforms"]
    grey = plan.channels == 1
    normalise = {
        "_target_": "NormalizeIntensityd",
        "keys": "image",
        "subtrahend": GREY_MEAN if grey else list(IMAGENET_MEAN),
        "divisor": GREY_STD if grey else list(IMAGENET_STD),
        "channel_wise": not grey,
    }
    typed, colours, resize, scale, *_ = template
    return [typed, colours, {**resize, "spatial_size": max(plan.shape)}, scale, normalise, fit]


def _random_transforms(template: Sequence[dict[str, Any]], spatial_dims: int) -> list[dict[str, Any]]:
    """The template's augmentation for pictures; what it becomes for volumes.

    Volumes lie on a grid in mm, so that sizes are findings, which nothing may change: scaled by a tenth, as pictures
    are, an organ has a third more volume, and large hippocampi have a fifth more than small ones. And organs have a
    side.
    """
    turned, *others, _ = template
    if spatial_dims == 2:
        return [dict(one) for one in template]
    moved = {key: value for key, value in turned.items() if key != "scale_range"}
    axes = {name: turned[name][:1] * 3 for name in ("rotate_range", "translate_range")}
    return [{**moved, **axes}, *others]


def _inference(
    plan: DiagnosisPlan, definition: Mapping[str, Any], names: Sequence[str], transforms: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    inference = template_config(TEMPLATE, "inference")
    read = inference["preprocessing"]["transforms"][0]
    activation = {"_target_": "Activationsd", "keys": "pred", "softmax" if plan.exclusive else "sigmoid": True}
    return with_values(
        inference,
        {
            "class_names": list(names),
            "in_channels": plan.channels,
            "network_def": dict(definition),
            "preprocessing#transforms": [read, *transforms],
            "postprocessing#transforms#1": activation,
        },
    )


def _metadata(plan: DiagnosisPlan, names: Sequence[str]) -> dict[str, Any]:
    metadata = template_config(TEMPLATE, "metadata")
    image, pred = "network_data_format#inputs#image", "network_data_format#outputs#pred"
    modality = {"picture": "X-ray", "ct": "CT", "mr": "MR"}[plan.kind]
    changes: dict[str, Any] = {
        f"{image}#format": "hounsfield" if plan.kind == "ct" else "magnitude",
        f"{image}#modality": modality,
        f"{image}#num_channels": plan.channels,
        f"{image}#spatial_shape": list(plan.shape),
        f"{image}#value_range": [-1, 1] if plan.kind == "ct" else [-10, 10],
        f"{image}#channel_def": {str(channel): "image" for channel in range(plan.channels)},
        f"{pred}#num_channels": len(names),
        f"{pred}#channel_def": {str(number): name for number, name in enumerate(names)},
        "image_classes": f"{plan.channels}-channel {modality} image",
        "data_source": "the user's own",
    }
    return with_values(metadata, changes)
