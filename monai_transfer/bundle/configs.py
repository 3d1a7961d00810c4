"""From a plan and its cases to the configurations of a bundle: values in, values out, nothing read back.

A template's configurations are read once; each function here gives the finished content of every file that differs
from it. Whatever comes from data (names of labels and cases, folders) passes :func:`~monai_transfer.text.literal`.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from monai_transfer.adaptation import SelfTraining
from monai_transfer.bundle.arms import PAINTING, SOURCE_ONLY, Arm, kept_to_start
from monai_transfer.bundle.config_parts import (
    case_names,
    class_names,
    folder_of,
    inference_config,
    metadata_config,
    precision_config,
    read_by,
    with_values,
)
from monai_transfer.bundle.facts import OPTIONAL_CHANNELS
from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.handing_on import give_finder
from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import Plan
from monai_transfer.bundle.request import LABELLED_TARGET, Domains, split_source
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.bundle.trust import template
from monai_transfer.datasets import CaseDataset
from monai_transfer.errors import UserError
from monai_transfer.text import literal
from monai_transfer.transforms.presets import Augmentation, Modality

Configs = dict[str, dict[str, Any]]
"""Name of a file in ``configs`` without its suffix -> its content."""

VALIDATIONS = 6
"""So often a training is validated: enough for a curve, and a small share of the run."""


def supervised_configs(
    plan: Plan, training: CaseDataset, validation: CaseDataset | None, *, augmentation: Augmentation = "standard"
) -> Configs:
    """A training on one labelled set, from the template ``segmentation_transfer``.

    Args:
        plan: the choices.
        training: labelled cases to learn from.
        validation: labelled cases of the same set to watch; ``None`` watches the training cases.
        augmentation: of the training images' appearance, see :func:`~monai_transfer.transforms.preset`.
    """
    names = training.channel_names
    train = with_values(
        template_config("segmentation_transfer", "train"),
        {
            **_training(plan, len(names)),
            "channel_dropout": plan.channel_dropout if len(names) > 1 else 0.0,
            "modality": plan.source_modality,
            "augmentation": augmentation,
            "dataset_dir": folder_of(training),
            "train_cases": case_names(training),
            "validation_cases": case_names(validation or training),
        },
    )
    train = read_by(train, training)
    return {
        "train": train,
        **_inference("segmentation_transfer", plan, plan.source_modality, names, plan.channel_dropout),
    }


def finetuning_configs(
    plan: Plan,
    training: CaseDataset,
    *,
    definition: Mapping[str, Any],
    strategy: Strategy,
    weights: str,
    learning_rate: float,
    validation: CaseDataset | None = None,
    joint: CaseDataset | None = None,
    joint_modality: str = "",
    joint_weight: float = 1.0,
    every_epoch: bool = False,
) -> Configs:
    """A supervised training that starts from weights: its configurations, and the overlay ``finetune``.

    Args:
        plan: the choices.
        training: labelled cases to learn from.
        definition: ``network_def`` of the network; dropout is added in training only.
        strategy: what is frozen, when it is freed, and what holds the weights back.
        weights: SPEC of the weights, empty for a training from scratch.
        learning_rate: peak learning rate.
        validation: labelled cases of any set to watch; ``None`` watches the training cases.
        joint: a second labelled set to learn from in every step.
        joint_modality: of the second set.
        joint_weight: weight of its loss.
        every_epoch: whether to validate after each epoch.
    """
    configs = supervised_configs(plan, training, None)
    configs["train"]["network_def"] = {**definition, "dropout": strategy.dropout}
    configs["inference"]["network_def"] = {**definition, "dropout": 0.0}
    if every_epoch:
        configs["train"]["val_interval"] = 1
    changes: dict[str, Any] = {**strategy.as_config(), "weights": literal(weights), "learning_rate": learning_rate}
    if validation is not None:
        changes |= {"validation_dir": folder_of(validation), "validation_cases": case_names(validation)}
    if joint is not None:
        changes |= {
            "joint_dir": folder_of(joint),
            "joint_cases": case_names(joint),
            "joint_modality": joint_modality,
            "joint_weight": joint_weight,
        }
    configs["finetune"] = read_by(with_values(template_config("segmentation_transfer", "finetune"), changes), training)
    return configs


def adaptation_configs(
    plan: Plan, domains: Domains, arm: Arm, *, title: str = "", keep_checkpoints: bool = False
) -> Configs:
    """One arm of an adaptation, from the template ``domain_adaptation``; its inference is the target's.

    Args:
        plan: the choices.
        domains: the cases.
        arm: what to train.
        title: stands beside the progress bar.
        keep_checkpoints: whether to leave a checkpoint at every validation.

    Raises:
        UserError: when the oracle has no target labels.
    """
    plan, names = arm.planned(plan), domains.source.channel_names
    changes: dict[str, Any] = {
        **_training(plan, len(names)),
        "source_modality": plan.source_modality,
        "target_modality": plan.target_modality,
        "weights": literal(plan.weights),
        "target_dir": folder_of(domains.target),
        "target_cases": case_names(domains.target),
        **_first_source(plan, domains, arm),
    }
    changes |= {"title": title} if title else {}
    changes |= {"source_spacing": list(plan.source_spacing)} if plan.body_scale != 1 else {}
    if keep_checkpoints:
        changes["checkpoint_interval"] = changes["val_interval"]
    if arm.augmentation is not None:
        changes["source_augmentation"] = arm.augmentation
    if arm.painting is not None:
        changes |= PAINTING[arm.painting]
    if arm.stretched is False:
        changes["source_stretch"] = 0.0
    if arm.methods is not None:
        changes["methods#modules"] = list(arm.methods)
    train = with_values(template_config("domain_adaptation", "train"), changes)
    if arm.labels_of != "target":
        _add_labelled_domains(train, plan, domains, target_labels=arm.labels_of == "all")
    _leave_out_unused(train, atlas=arm.labels_of == "target")
    train = read_by(kept_to_start(train, plan.weights) if arm == SOURCE_ONLY else train, domains.source)
    return {"train": train, **_inference("domain_adaptation", plan, plan.target_modality, names)}


def make_arm(
    domains: Domains,
    plan: Plan,
    root: str | Path,
    arm: Arm,
    *,
    overwrite: bool = False,
    resume: bool = False,
    title: str = "",
    keep_checkpoints: bool = False,
) -> BundleFolder:
    """A bundle at ``root`` that is ready to train one arm; see :func:`adaptation_configs`.

    Raises:
        UserError: when the folder is taken, or the oracle has no target labels.
    """
    configs = adaptation_configs(plan, domains, arm, title=title, keep_checkpoints=keep_checkpoints)
    bundle = BundleFolder.create("domain_adaptation", root, configs=configs, overwrite=overwrite, resume=resume)
    if domains.finder is not None:
        give_finder(bundle, domains.finder)
    return bundle


@lru_cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def template_config(bundle: str, config: str) -> dict[str, Any]:
    """A fresh copy of one configuration of a packaged bundle."""
    content: dict[str, Any] = json.loads(_read(template(bundle) / "configs" / f"{config}.json"))
    return content


def _inference(
    bundle: str, plan: Plan, modality: Modality, channel_names: Sequence[str], channel_dropout: float = 0.0
) -> Configs:
    inference, metadata = template_config(bundle, "inference"), template_config(bundle, "metadata")
    described = metadata_config(plan, modality, channel_names)
    if len(channel_names) > 1:
        described[OPTIONAL_CHANNELS] = channel_dropout > 0
    return {
        "inference": with_values(inference, inference_config(plan, modality, len(channel_names), inference)),
        "metadata": with_values(metadata, described),
    }


def _training(plan: Plan, channels: int) -> dict[str, Any]:
    epochs, steps = plan.epochs
    return {
        "seed": plan.seed,
        "labels": {str(number): literal(name) for number, name in plan.class_names.items()},
        "label_values": plan.label_values,
        "spacing": list(plan.spacing),
        "roi_size": list(plan.roi_size),
        "window": list(plan.window),
        "network_def": network_definition(plan.network, classes=plan.classes, channels=channels),
        "max_epochs": epochs,
        "steps_per_epoch": steps,
        "val_interval": max(1, epochs // VALIDATIONS),
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
        **precision_config(plan.precision, plan.device),
    }


def _first_source(plan: Plan, domains: Domains, arm: Arm) -> dict[str, Any]:
    """Which labelled cases the arm learns from and watches; the oracle learns from the target's."""
    if arm.labels_of != "target":
        source = domains.source
        parts = split_source(source)
        return {
            "source_dir": folder_of(source),
            "source_cases": case_names(parts[0]),
            "validation_cases": case_names(parts[1]),
        }
    labelled = domains.target.labelled
    if not labelled.cases:
        raise UserError(f"{domains.target.root} has no labels to train the oracle on: omit the oracle.")
    return {
        "source_dir": folder_of(labelled),
        "source_cases": case_names(labelled),
        "validation_cases": case_names(labelled),
        "source_modality": plan.target_modality,
    }


def _add_labelled_domains(train: dict[str, Any], plan: Plan, domains: Domains, *, target_labels: bool) -> None:
    """The labelled domains beside the first source: further sources, and the target cases whose labels are learnt.

    The sources share a weight of 1; a labelled part of the target has a weight of its own.
    """
    parts = {name: cases for name, cases in domains.further.items() if target_labels or name != LABELLED_TARGET}
    modalities = iter(plan.further_modalities)
    share = 1 / (1 + len(domains.further_sources))
    training, weights = train["train"], train["domain_weights"]
    if domains.further_sources:
        weights["source"] = share
    for name, cases in parts.items():
        if name == LABELLED_TARGET:
            preprocessing = {**training["target_preprocessing"], "labelled": True, "pseudo_labels": None}
            preprocessing["label_values"] = "@label_values"
        else:
            preprocessing = {**training["preprocessing"], "modality": next(modalities)}
        train[name] = {
            "dir": folder_of(cases),
            "cases": case_names(cases),
            "items": f"$read_dataset(@{name}#dir).only(@{name}#cases).labelled.items()",
            "preprocessing": preprocessing,
            "dataset": {**training["dataset"], "data": f"@{name}#items", "transform": f"@{name}#preprocessing"},
        }
        training["dataloader"]["datasets"][name] = f"@{name}#dataset"
        weights[name] = 1.0 if name == LABELLED_TARGET else share


def _leave_out_unused(train: dict[str, Any], *, atlas: bool) -> None:
    """Drop what none of the methods needs: pseudo-labels of the target, its images, and the atlas but of an oracle."""
    methods = class_names(train["methods"]["modules"])
    if SelfTraining.__name__ not in methods:
        train["label_from"] = train["pseudo_labels"] = None
        train["atlas_file"] = train["atlas_file"] if atlas else None
    if not methods:
        del train["train"]["dataloader"]["datasets"]["target"]
