"""``monai-transfer finetune``: a bundle from pretrained weights and a labelled data set."""

from pathlib import Path
from typing import Annotated, Any

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
    CasesOption,
    ChannelDropoutOption,
    DeviceOption,
    DryRunOption,
    FoldOption,
    JsonOption,
    NetworkOption,
    OverwriteOption,
    ResumeOption,
    SeedOption,
    SpacingOption,
    StepsOption,
    TaskOption,
    TrainingPrecisionOption,
    TrustOption,
)
from monai_transfer.errors import UserError
from monai_transfer.options import SCRATCH, JointWeight, checked, require_options_of, split_list, split_numbers


def finetune_command(
    data: Annotated[Path, typer.Option(help="Labelled data set.")],
    weights: Annotated[
        str, typer.Option(help="medicalnet:resnet18, imagenet:vgg16_bn, hf:REPO/FILE, a file or a bundle.")
    ],
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    task: TaskOption = "segmentation",
    test: Annotated[Path | None, typer.Option(help="Labelled data set for the scores.")] = None,
    cases: CasesOption = None,
    test_cases: CasesOption = None,
    fold: FoldOption = None,
    freeze: Annotated[
        str | None, typer.Option(help="Levels that never train: encoder, stem, level1, …, separated by commas.")
    ] = None,
    unfreeze: Annotated[
        str | None,
        typer.Option(help="Gradual unfreezing: epochs between levels (3), epochs (2,4,8), or plateau:PATIENCE."),
    ] = None,
    l2sp: Annotated[
        float | None,
        typer.Option(
            help="Strength of L2-SP towards the pretrained values; by default 0.01 where the weights segment every "
            "label of the data already, else 0.",
            show_default=False,
        ),
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="L2 towards zero.")] = 1e-4,
    layerwise_decay: Annotated[float, typer.Option(help="Learning-rate factor from level to level.")] = 1.0,
    head_factor: Annotated[float, typer.Option(help="How much faster the head trains.")] = 1.0,
    restore_lengths: Annotated[
        bool | None,
        typer.Option(
            help="Bring pretrained kernels to the length of fresh ones: they learn as fast. On for segmentation.",
            show_default=False,
        ),
    ] = None,
    batch_norm: Annotated[
        str, typer.Option(help="train, follow_freezing, frozen_statistics or frozen_affine.")
    ] = "follow_freezing",
    dropout: Annotated[float, typer.Option(help="Dropout in the decoder.")] = 0.0,
    early_stop: Annotated[
        int | None, typer.Option(help="Stop after so many validations without a gain.", show_default=False)
    ] = None,
    minimum: Annotated[float, typer.Option(help="Share of the encoder that the weights must cover.")] = 0.9,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="scratch: the same training from fresh weights beside it; what is better on validation cases is kept. "
            "With --fractions also other weights; repeat it for each.",
            show_default=False,
        ),
    ] = None,
    fractions: Annotated[
        str | None, typer.Option(help="Label efficiency: percentages of the cases, such as 1,5,10,100.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings per fraction, each with its own seed.")] = 1,
    old_data: Annotated[
        Path | None, typer.Option(help="Cases of the bundle that is fine-tuned: report what is forgotten.")
    ] = None,
    old_cases: CasesOption = None,
    joint: Annotated[Path | None, typer.Option(help="A second labelled data set to learn from in every step.")] = None,
    joint_cases: CasesOption = None,
    joint_weight: Annotated[float, typer.Option(help="Weight of its loss; that of --data has weight 1.")] = 1.0,
    network: NetworkOption = None,
    spacing: SpacingOption = None,
    steps: StepsOption = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate, of the twin from scratch too.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases per step.")] = None,
    channel_dropout: ChannelDropoutOption = None,
    precision: TrainingPrecisionOption = None,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    size: SizeOption = None,
    focal: FocalOption = None,
    label_smoothing: SmoothingOption = None,
    mixup: MixupOption = None,
    class_weights: ClassWeightsOption = None,
    sensitivity: SensitivityOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    trust: TrustOption = False,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune pretrained weights on labelled images; say what was loaded, and whether it helped.

    With --task diagnosis DATA is a folder per class, or a list of examinations.

    Example: monai-transfer finetune --data Task09_Spleen --weights medicalnet:resnet18 --output spleen
    --unfreeze 2 --compare scratch
    """
    from monai_transfer.bundle.request import PlanOptions
    from monai_transfer.bundle.strategy import Strategy
    from monai_transfer.datasets import read_dataset
    from monai_transfer.volumes.volume import Reading

    compared = [spec for spec in compare or () if spec != SCRATCH]
    if compared and not fractions:
        raise UserError(f"--compare {compared[0]} is for --fractions: give these, or compare with scratch.")
    checked(JointWeight, joint_weight)
    options = PlanOptions(
        device=device,
        spacing=split_numbers(spacing, "--spacing"),
        network=network,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        channel_dropout=channel_dropout,
        seed=seed,
        precision=precision,
    )
    strategy = Strategy(
        frozen=tuple(split_list(freeze)),
        batch_norm=batch_norm,  # type: ignore[arg-type]
        # what it is worth was measured on segmentation alone
        restore_lengths=task == "segmentation" if restore_lengths is None else restore_lengths,
        layerwise_decay=layerwise_decay,
        head_factor=head_factor,
        weight_decay=weight_decay,
        l2sp=l2sp,
        dropout=dropout,
        early_stop_patience=early_stop,
        minimum_share=minimum,
    ).unfreezing(unfreeze)
    own: dict[str, Any] = {"size": size, "focal": focal, "mixup": mixup}
    own |= {"label_smoothing": label_smoothing, "class_weights": class_weights}
    reads = {"assume_affine": assume_affine, "allow_irregular": allow_irregular}
    segmenting: dict[str, object] = {
        "cases": cases,
        "test_cases": test_cases,
        "fold": fold is not None,
        "compare": compare,
        "channel_dropout": channel_dropout,
        "precision": precision,
        **reads,
    }
    segmenting |= {"old_cases": old_cases, "joint": joint}
    require_options_of(task, segmentation=segmenting, diagnosis={**own, "sensitivity": sensitivity})
    shares = _shares(fractions)
    if task == "diagnosis":
        train_diagnosis_command(
            data,
            output,
            weights=weights,
            strategy=strategy,
            test=test,
            old_data=old_data,
            fractions=shares,
            seeds=seeds,
            sensitivity=sensitivity,
            trust=trust,
            overwrite=overwrite,
            resume=resume,
            dry_run=dry_run,
            as_json=as_json,
            spacing=split_numbers(spacing, "--spacing"),
            network=network,
            steps=steps,
            learning_rate=learning_rate,
            batch_size=batch_size,
            **own,
            seed=seed,
            device=device,
        )
        return

    from monai_transfer.workflows import finetuning as work
    from monai_transfer.workflows.finetuning_cases import choose_finetuning_cases, with_joint
    from monai_transfer.workflows.starting_point import read_starting_point

    baselines = work.Baselines(scratch=bool(compare), fractions=shares, seeds=seeds)
    start = read_starting_point(weights)
    reading = Reading(**reads)
    chosen = choose_finetuning_cases(
        data,
        test=test,
        cases=split_list(cases),
        test_cases=split_list(test_cases),
        fold=fold,
        strategy=strategy,
        choose_start=baselines.scratch and not baselines.fractions,
        reading=reading,
    )
    if joint is not None:
        chosen = with_joint(chosen, joint, names=split_list(joint_cases), weight=joint_weight)
    plan = work.plan_finetuning(chosen, start, **options.given)
    old = (
        read_dataset(old_data, reading=reading).select(split_list(old_cases) or ["*"]).labelled
        if old_data is not None
        else None
    )
    console.say_plan(plan)
    console.say(strategy.holding(known=start.knows(plan.label_names)).describe())
    trusted = start.bundle is not None and console.ask_trust(start.bundle, start.concerns, trust=trust, dry_run=dry_run)
    if old is not None and start.bundle is not None:
        trusted = console.settle_trust([start.bundle], trust=trust or trusted, dry_run=dry_run) or trusted
    if dry_run and start.concerns:
        return  # trying the weights would build the network, which here means to run foreign code
    channels = len(chosen.training.channel_names)
    others = [read_starting_point(spec).into(start) for spec in compared]
    for point in (start, *others):
        loaded = work.check_weights(point, plan, strategy, channels=channels, trust=trusted)
        for line in (loaded.summary(), *loaded.remarks()):
            console.say(line)
    if dry_run:
        return console.emit_plan(plan, as_json=as_json)
    result = work.finetune(
        chosen,
        plan,
        start,
        strategy,
        output,
        baselines=baselines,
        others=others,
        old=old,
        trust=trusted,
        overwrite=overwrite,
        resume=resume,
        say=console.say_section,
    )
    report = {"bundle": str(result.bundle.root), **result.report}
    console.emit_result(report, result.sentences, as_json=as_json)


def _shares(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in split_list(text))
    except ValueError:
        raise UserError(f"--fractions {text} is not possible: give percentages such as 1,5,10,100.") from None
