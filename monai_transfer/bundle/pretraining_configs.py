"""From the plan of a pretraining, and its volumes, to the configurations of a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_transfer.bundle.config_parts import (
    case_names,
    channel_definition,
    folder_of,
    inference_preprocessing,
    precision_config,
    read_by,
    with_values,
)
from monai_transfer.bundle.configs import Configs, template_config
from monai_transfer.bundle.networks import network_definition
from monai_transfer.bundle.plan import make_plan
from monai_transfer.bundle.pretraining_plan import PretrainingPlan
from monai_transfer.datasets import CaseDataset, read_dataset, require_sound
from monai_transfer.errors import UserError
from monai_transfer.machine import usual_precision
from monai_transfer.transforms.presets import Modality
from monai_transfer.volumes.volume import Reading

_SHAPES_GRID = 2.0
"""Working grid in mm of a bundle that learnt from shapes, which have no size: between the brain's and the body's."""


@dataclass(frozen=True)
class Volumes:
    """What a masked pretraining learns from.

    Attributes:
        sets: one set of volumes per folder; labels are not read.
        modalities: of each set.
        spacing: working grid in mm.
        roi_size: voxels of a crop.
    """

    sets: tuple[CaseDataset, ...]
    modalities: tuple[Modality, ...]
    spacing: tuple[float, ...]
    roi_size: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Image channels, the same in every set."""
        return len(self.sets[0].channel_names)

    def describe(self) -> str:
        """How many volumes of what."""
        parts = zip(self.sets, self.modalities, strict=True)
        return " and ".join(f"{len(cases)} {modality.upper()} volume(s)" for cases, modality in parts)


def choose_volumes(
    folders: Sequence[str | Path],
    plan: PretrainingPlan,
    *,
    spacing: Sequence[float] | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Volumes:
    """Check the volumes of every folder and plan a working grid for all of them.

    Args:
        folders: of the volumes, one of each domain.
        plan: the choices.
        spacing: working grid in mm, in place of the planned one.
        reading: how strictly the volumes are read.

    Raises:
        UserError: there is no folder, one has a fault or no volume, or their channels differ.
    """
    if not folders:
        raise UserError("--recipe masked learns from volumes: name their folders with --data.")
    sets = tuple(read_dataset(folder, reading=reading) for folder in folders)
    first, *others = [require_sound(cases, labelled=False) for cases in sets]
    for cases in sets[1:]:
        if len(cases.channel_names) != len(sets[0].channel_names):
            raise UserError(
                f"{cases.root} has {len(cases.channel_names)} channel(s) and {sets[0].root} has "
                f"{len(sets[0].channel_names)}: give every folder the same channels."
            )
    planned = make_plan(
        first,
        None,
        further=others,
        label_names={0: "background"},
        device=plan.device,
        spacing=spacing,
        network=plan.network,
    )
    roi = tuple(min(plan.length, size) for size in planned.roi_size)
    return Volumes(sets, (first.modality, *(print_.modality for print_ in others)), planned.spacing, roi)


def shapes_configs(plan: PretrainingPlan, kinds: Sequence[str]) -> Configs:
    """A pretraining from shapes.

    Args:
        plan: the choices.
        kinds: names of the classes that are segmented.
    """
    definition = network_definition(plan.network, classes=len(kinds))
    train = {
        **_training(plan, definition),
        "length": plan.length,
        "contrast_weight": float(plan.objective != "segmentation"),
        "segmentation_weight": float(plan.objective != "contrast"),
    }
    # shapes have no units: an image is standardised, whatever made it
    steps = inference_preprocessing("mr", spacing=(_SHAPES_GRID,) * 3, window=(-160.0, 240.0))
    roi = [plan.length] * 3
    inference = {"network_def": definition, "preprocessing#transforms": steps, "inferer#roi_size": roi}
    return {"train": train, "inference": _inference(inference), "metadata": _metadata(plan, roi)}


def masked_configs(plan: PretrainingPlan, volumes: Volumes) -> Configs:
    """A pretraining on volumes with hidden blocks: ``train``, and the overlay ``masked`` that lies over it.

    Args:
        plan: the choices.
        volumes: what is learnt from; each folder is a domain of its own, with an equal weight.
    """
    # one output per channel: the network says what the image was
    definition = network_definition(plan.network, classes=volumes.channels, channels=volumes.channels)
    masked = template_config("pretraining", "masked")
    masked |= {"spacing": list(volumes.spacing), "roi_size": list(volumes.roi_size)}
    datasets, weights = masked["train#dataloader"]["datasets"], masked["train#trainer#domain_weights"]
    for number, (cases, modality) in enumerate(zip(volumes.sets, volumes.modalities, strict=True), start=1):
        name = f"volumes_{number}"
        masked[name] = _volumes_config(name, cases, modality)
        datasets[name] = f"@{name}#dataset"
        weights[name] = 1 / len(volumes.sets)
    steps = inference_preprocessing(
        volumes.modalities[0], spacing=volumes.spacing, window=tuple(masked["window"]), channels=volumes.channels
    )
    inference = _inference(
        {"network_def": definition, "preprocessing#transforms": steps, "inferer#roi_size": list(volumes.roi_size)}
    )
    # the output is an image of the network's own scale: nothing to choose from, and no label map to write
    chosen = ("Invertd", "SaveImaged")
    kept = [step for step in inference["postprocessing"]["transforms"] if step["_target_"] in chosen]
    kept[-1] = {**kept[-1], "output_dtype": "$numpy.float32"}
    inference["postprocessing"]["transforms"] = kept
    pred = "network_data_format#outputs#pred"
    described = {
        "network_data_format#inputs#image#num_channels": volumes.channels,
        "network_data_format#inputs#image#channel_def": channel_definition(volumes.sets[0].channel_names),
        f"{pred}#format": "magnitude",
        f"{pred}#num_channels": volumes.channels,
        f"{pred}#channel_def": channel_definition(volumes.sets[0].channel_names),
        "data_source": "the user's own",
        "label_classes": "none",
        "pred_classes": "the image, filled in",
    }
    metadata = _metadata(plan, list(volumes.roi_size), described)
    return {"train": _training(plan, definition), "masked": masked, "inference": inference, "metadata": metadata}


def _training(plan: PretrainingPlan, definition: dict[str, Any]) -> dict[str, Any]:
    epochs, steps = plan.epochs
    precision = plan.precision or usual_precision(plan.device)
    return {
        **template_config("pretraining", "train"),
        **precision_config(precision, plan.device),
        "network_def": definition,
        "seed": plan.seed,
        "max_epochs": epochs,
        "steps_per_epoch": steps,
        "minutes": plan.minutes,
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
    }


def _metadata(plan: PretrainingPlan, window: list[int], changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    values: dict[str, Any] = {
        "network_data_format#inputs#image#spatial_shape": window,
        "network_data_format#outputs#pred#spatial_shape": window,
        **(changes or {}),
    }
    return with_values(template_config("pretraining", "metadata"), values)


def _inference(changes: dict[str, Any]) -> dict[str, Any]:
    return with_values(template_config("pretraining", "inference"), changes)


def _volumes_config(name: str, cases: CaseDataset, modality: Modality) -> dict[str, Any]:
    """One folder: where it is, which cases, and how they become crops with hidden blocks."""
    config = {
        "dir": folder_of(cases),
        "cases": case_names(cases),
        "items": f"$[{{'image': item['image']}} for item in read_dataset(@{name}#dir).only(@{name}#cases).items()]",
        "preprocessing": {
            "_target_": "monai_transfer.pretraining.masked_preset",
            "modality": modality,
            "spacing": "@spacing",
            "roi_size": "@roi_size",
            "window": "@window",
            "share": "@hidden_share",
            "block": "@block",
            "device": "@device",
        },
        "dataset": {
            "_target_": "CacheDataset",
            "data": f"@{name}#items",
            "transform": f"@{name}#preprocessing",
            "progress": False,
        },
    }
    return {**config, "preprocessing": read_by(config["preprocessing"], cases)}
