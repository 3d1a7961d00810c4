"""``monai-transfer train``: a bundle from a labelled data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.diagnosis_training import (
    ClassWeightsOption,
    FocalOption,
    MixupOption,
    SensitivityOption,
    SizeOption,
    SmoothingOption,
    train_diagnosis_command,
)
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    AugmentationOption,
    CasesOption,
    ChannelDropoutOption,
    DeviceOption,
    DryRunOption,
    FoldOption,
    JsonOption,
    MinutesOption,
    NetworkOption,
    OverwriteOption,
    ResumeOption,
    SeedOption,
    SpacingOption,
    StepsOption,
    TrainingPrecisionOption,
)
from monai_transfer.cli.two_tasks import BothTasksOption, TaskWeightsOption, read_task_weights, train_both_command
from monai_transfer.options import (
    TrainingAugmentation,
    checked,
    refuse_given,
    require_options_of,
    split_list,
    split_numbers,
)

if TYPE_CHECKING:
    from monai_transfer.transforms.presets import Augmentation
    from monai_transfer.workflows.training import LabelledSplit


def train_command(
    data: Annotated[Path, typer.Option(help="Label maps; for diagnosis a folder per class or a list; or both.")],
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    task: BothTasksOption = "segmentation",
    cases: CasesOption = None,
    fold: FoldOption = None,
    network: NetworkOption = None,
    spacing: SpacingOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases per step.")] = None,
    augmentation: AugmentationOption = None,
    channel_dropout: ChannelDropoutOption = None,
    precision: TrainingPrecisionOption = None,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    size: SizeOption = None,
    focal: FocalOption = None,
    label_smoothing: SmoothingOption = None,
    mixup: MixupOption = None,
    task_weights: TaskWeightsOption = None,
    class_weights: ClassWeightsOption = None,
    sensitivity: SensitivityOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a bundle on labelled images and score it on the cases that it held out.

    Example: monai-transfer train --data Task09_Spleen --output spleen
    """
    from monai_transfer.bundle.request import PlanOptions
    from monai_transfer.volumes.volume import Reading

    common: dict[str, object] = {"device": device, "network": network, "seed": seed, "steps": steps}
    common |= {"learning_rate": learning_rate, "batch_size": batch_size, "spacing": split_numbers(spacing, "--spacing")}
    own: dict[str, Any] = {"size": size, "focal": focal, "mixup": mixup, "label_smoothing": label_smoothing}
    own["class_weights"] = class_weights
    both_take: dict[str, Any] = {"channel_dropout": channel_dropout, "precision": precision}
    split = {"cases": cases, "fold": fold is not None, "minutes": minutes, "augmentation": augmentation}
    reads = {"assume_affine": assume_affine, "allow_irregular": allow_irregular}
    how: dict[str, Any] = {"overwrite": overwrite, "resume": resume, "dry_run": dry_run, "as_json": as_json}
    if task == "both":
        both = {"refused": {**own, **split}, "weights": read_task_weights(task_weights), **how, **common}
        return train_both_command(data, output, Reading(**reads), sensitivity=sensitivity, **both, **both_take)
    segmenting = {**split, **both_take, **reads}
    require_options_of(task, segmentation=segmenting, diagnosis={**own, "sensitivity": sensitivity})
    refuse_given({"task_weights": task_weights is not None}, f"{{}} is for --task both: omit it with --task {task}.")
    if task == "diagnosis":
        return train_diagnosis_command(data, output, sensitivity=sensitivity, **{**how, **own, **common})
    how["augmentation"] = checked(TrainingAugmentation, augmentation or "standard")
    options = PlanOptions(minutes=minutes, **both_take, **common).given  # type: ignore[arg-type]
    from monai_transfer.workflows.training import choose_cases

    parts = choose_cases(data, split_list(cases), fold=fold, reading=Reading(**reads))
    _train_segmentation(parts, options, output, minutes, **how)


def _train_segmentation(
    parts: "LabelledSplit",
    options: dict[str, Any],
    output: Path,
    minutes: float | None,
    *,
    augmentation: "Augmentation",
    overwrite: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from monai_transfer.bundle.pacing import Pace
    from monai_transfer.workflows.training import plan_training, train

    pace = None if minutes is None else Pace(minutes, begun=output if resume else None)
    console.say_plan(plan := plan_training(parts, pace=pace, **options))
    if dry_run:
        return console.emit_plan(plan, as_json=as_json)
    how: dict[str, Any] = {"augmentation": augmentation, "overwrite": overwrite, "resume": resume}
    result = train(parts, plan, output, **how, say=console.say_section)
    console.emit_result(result.as_report(), result.sentences, as_json=as_json)
