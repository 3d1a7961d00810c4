"""From a plan and cases of two tasks to the configurations of a bundle that segments and names classes.

The bundle is one of ``segmentation_transfer`` whose training has a second head. It leaves two networks, both MONAI's:
``inference.json`` with ``models/model.pt`` segments, ``diagnosis.json`` with ``models/diagnosis.pt`` names classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from monai_transfer.bundle.allowed import IN_A_ROW, SECOND_CHECKPOINT
from monai_transfer.bundle.config_parts import case_names, preprocessing_once_loaded, read_by, with_values
from monai_transfer.bundle.configs import Configs, supervised_configs, template_config
from monai_transfer.bundle.diagnosis_configs import TEMPLATE
from monai_transfer.bundle.facts import DIAGNOSIS
from monai_transfer.bundle.networks import LIGHT, LIGHT_RESNETS, network_definition, network_name
from monai_transfer.bundle.plan import Plan
from monai_transfer.datasets import Fingerprint, TwoTaskDataset
from monai_transfer.errors import UserError
from monai_transfer.text import literal

_MULTIPLE, _DEEP_MULTIPLE = 16, 32
"""Four levels that halve the grid, and five in the full encoders: of such lengths nothing is cut off."""

_TWO_HEADED = ("UNet", "FlexibleUNet", "LightResNetUNet")
"""Classes whose layers but for the last can be shared, see :class:`~monai_transfer.networks.TwoHeads`."""

_ACROSS = 8
"""Voxels across the smallest label: a lesion of 5.6 was not found after 900 images (Dice 0.01), one of 8.7 was."""

_GAMMA = 1.0
"""At first every label counts alike: a lesion is a few voxels in a thousand of a whole image."""

_READ = "read_two_tasks(@dataset_dir)"
_WRITE_REPORT = "$@load_report.write_json(pathlib.Path(@output_dir) / 'load_report.json') if @load_report else None"


def fine_enough(step: float, fingerprint: Fingerprint) -> float:
    """A grid in mm on which the smallest label can be found, where that takes a finer one than ``step``.

    Seen with the whole image it may be a lesion, and the light U-Net's finest features are two voxels wide.
    """
    smallest = min(fingerprint.label_volumes_ml.values(), default=1000.0)
    diameter = float((6 * 1000 * smallest / math.pi) ** (1 / 3))  # of a ball of that volume
    return max(min(step, math.floor(diameter / _ACROSS * 20) / 20), step / 2)


def whole_images(plan: Plan, fingerprint: Fingerprint) -> Plan:
    """The plan with windows that hold the whole image: what names its class may be anywhere in it.

    Raises:
        UserError: the network is not one that can have two heads, or a step does not fit into memory.
    """
    _require_two_heads(network_definition(plan.network, classes=plan.classes))
    multiple = _MULTIPLE if plan.network in (*LIGHT, *LIGHT_RESNETS) else _DEEP_MULTIPLE
    lengths = (extent / step for extent, step in zip(fingerprint.whole_mm, plan.spacing, strict=True))
    size = tuple(max(2 * _MULTIPLE, math.ceil((length - 1.5) / multiple) * multiple) for length in lengths)
    return plan.with_options(roi_size=size)


def two_task_configs(
    plan: Plan, training: TwoTaskDataset, validation: TwoTaskDataset, *, weights: Sequence[float] | None = None
) -> Configs:
    """A training of both tasks.

    Args:
        plan: the choices, see :func:`whole_images`.
        training: cases to learn from, some of them with label maps.
        validation: cases to watch; those with label maps are.
        weights: of segmentation and diagnosis in the loss; learnt where None.
    """
    exams, channels = training.exams, len(training.cases.channel_names)
    mapped, without = training.mapped, training.without_map
    configs = supervised_configs(plan, mapped.cases, (validation.mapped.cases if len(validation.mapped) else None))
    train = configs["train"]
    layers = diagnosis_layers(train["network_def"], labels=plan.classes, classes=len(exams.class_names))
    train["train"]["handlers"] = _handlers(train["train"]["handlers"])
    optimised = "{'params': @network.parameters()}, {'params': @loss.parameters(), 'weight_decay': 0.0}"
    changes: dict[str, Any] = {
        "imports": [
            *train["imports"],
            "$from monai_transfer.datasets import read_two_tasks",
            "$from monai_transfer.finetuning import start_from",
            "$from monai_transfer.networks import TwoHeads",
        ],
        "class_names": [literal(name) for name in exams.class_names],
        "exclusive": exams.exclusive,
        "task_weights": None if weights is None else list(weights),
        "layers": layers,
        "weights": literal(plan.weights),
        "load_report": "$start_from(@network_def, @weights) if @weights else None",
        "network": f"$(@load_report, TwoHeads(@network_def, {IN_A_ROW[1:]}))[1].to(@device)",
        "initialize": [*train["initialize"], _WRITE_REPORT],
        "segmentation_loss": {**train["loss"], "gamma": _GAMMA},
        "diagnosis_loss": {"_target_": "monai_transfer.losses.DiagnosisLoss", "exclusive": "@exclusive"},
        "loss": {
            "_target_": "monai_transfer.losses.TwoTaskLoss",
            "segmentation": "@segmentation_loss",
            "diagnosis": "@diagnosis_loss",
            "labels": "$len(@labels)",
            "weights": "@task_weights",
        },
        "optimizer#params": f"$[{optimised}]",
        "train_items": f"$({_READ}.only(@train_cases) if @train_cases else {_READ}.mapped).items()",
        "joined": _joined("@train#preprocessing"),
        "train#dataset#transform": "@joined",
        "validate#evaluator#network": "$@averaged_network.segmentation",
    }
    train = with_values(train, changes)
    if len(without):
        _add_unmapped(train, without)
    inference = _inference(plan, layers, exams.class_names, exclusive=exams.exclusive, channels=channels)
    return {**configs, "train": read_by(train, training.cases), DIAGNOSIS: inference}


def _add_unmapped(train: dict[str, Any], without: TwoTaskDataset) -> None:
    """The cases without a label map, as a second domain of every step."""
    train["unmapped_cases"] = case_names(without.cases)
    chosen = f"{_READ}.only(@unmapped_cases) if @unmapped_cases else {_READ}.without_map"
    train["unmapped_items"] = f"$({chosen}).items()"
    train["unmapped_preprocessing"] = {**train["train"]["preprocessing"], "labelled": False}
    train["unmapped_joined"] = _joined("@unmapped_preprocessing")
    dataset = {**train["train"]["dataset"], "data": "@unmapped_items", "transform": "@unmapped_joined"}
    train["unmapped_dataset"] = dataset
    train["train"]["dataloader"]["datasets"]["unmapped"] = "@unmapped_dataset"
    train["train"]["trainer"]["domain_weights"] = {"source": 1.0, "unmapped": 1.0}


def diagnosis_layers(definition: Mapping[str, Any], *, labels: int, classes: int) -> list[dict[str, Any]]:
    """The layers of a network that names classes, and is a U-Net but for the last of them.

    The U-Net's outputs are the labels, and maps of the evidence for each class. At every place they are compared with
    each other: as they come, the greatest value of an image says nothing (on phantoms the greatest logit of a lesion
    told who has one with an AUC of 0.37, the greatest probability with one of 0.90). They are averaged over a few
    voxels, so that none decides alone, and the greatest of the image counts: the mean of all would hardly notice a
    small lesion.
    Pinheiro and Collobert, "From image-level to pixel-level labeling with convolutional networks", CVPR 2015.

    Args:
        definition: of the U-Net.
        labels: outputs of the segmentation.
        classes: outputs.
    """
    _require_two_heads(definition)
    dims = definition["spatial_dims"]
    return [
        {**definition, "out_channels": labels + classes},
        {"_target_": "torch.nn.LogSoftmax", "dim": 1},
        # of every place, so that a map of it lies where the image does
        {
            "_target_": f"torch.nn.AvgPool{dims}d",
            "kernel_size": 3,
            "stride": 1,
            "padding": 1,
            "count_include_pad": False,
        },
        {"_target_": f"torch.nn.AdaptiveMaxPool{dims}d", "output_size": 1},
        {"_target_": "torch.nn.Flatten"},
        {"_target_": "torch.nn.Linear", "in_features": labels + classes, "out_features": classes},
    ]


def _require_two_heads(definition: Mapping[str, Any]) -> None:
    if str(definition["_target_"]).rpartition(".")[2] not in _TWO_HEADED:
        name = network_name(definition)
        raise UserError(
            f"--network {name} has one head: choose {', '.join((*LIGHT, *LIGHT_RESNETS))} or a ResNet with --task both."
        )


def _handlers(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The handlers of a segmentation, which save each network by itself and balance the one loss that can be."""
    found: list[dict[str, Any]] = []
    for handler in given:
        if handler["_target_"] == "CheckpointSaver":
            named = {"segmentation": handler["final_filename"], "diagnosis": f"{DIAGNOSIS}.pt"}
            found += [
                {**handler, "save_dict": {"network": f"$@averaged_network.{part}"}, "final_filename": name}
                for part, name in named.items()
            ]
        elif handler["_target_"].endswith("BalanceSchedule"):
            found.append({**handler, "loss": "@segmentation_loss"})
        else:
            found.append(dict(handler))
    return found


def _joined(preprocessing: str) -> dict[str, Any]:
    join = {"_target_": "monai_transfer.transforms.JoinTargets"}
    return {"_target_": "Compose", "transforms": [preprocessing, join]}


def _inference(
    plan: Plan, layers: Sequence[dict[str, Any]], class_names: Sequence[str], *, exclusive: bool, channels: int
) -> dict[str, Any]:
    """``diagnosis.json``: the inference of ``diagnosis_transfer`` with the second network."""
    inference = template_config(TEMPLATE, "inference")
    read = inference["preprocessing"]["transforms"][0]
    fit = {
        "_target_": "ResizeWithPadOrCropd",
        "keys": "image",
        "spatial_size": list(plan.roi_size),
        "mode": "edge",  # as the training's windows are filled, and those of the segmentation
    }
    grid = preprocessing_once_loaded(plan.source_modality, spacing=plan.spacing, window=plan.window, channels=channels)
    activation = {"_target_": "Activationsd", "keys": "pred", "softmax" if exclusive else "sigmoid": True}
    changes = {
        "class_names": [literal(name) for name in class_names],
        "in_channels": channels,
        "checkpoint": SECOND_CHECKPOINT,
        "layers": list(layers),
        "network_def": IN_A_ROW,
        "preprocessing#transforms": [read, *grid, fit],
        "postprocessing#transforms#1": activation,
    }
    return with_values(inference, changes)
