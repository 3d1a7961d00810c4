"""What ``train``, ``finetune`` and ``adapt`` do with ``--task diagnosis``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from monai_transfer.cli import console
from monai_transfer.errors import UserError

if TYPE_CHECKING:
    from monai_transfer.bundle.diagnosis_plan import DiagnosisPlan
    from monai_transfer.bundle.strategy import Strategy
    from monai_transfer.workflows.starting_point import StartingPoint

SizeOption = Annotated[int | None, typer.Option(help="Diagnosis: longest side of pictures in pixels.")]
FocalOption = Annotated[float | None, typer.Option(help="Diagnosis: focal loss; 0 is cross entropy.")]
SmoothingOption = Annotated[float | None, typer.Option(help="Diagnosis: label smoothing.")]
MixupOption = Annotated[float | None, typer.Option(help="Diagnosis: mixup; 0.2 is usual, 0 is none.")]
ClassWeightsOption = Annotated[
    Literal["balanced", "none"] | None, typer.Option(help="Diagnosis: whether rare classes count more.")
]
SensitivityOption = Annotated[
    float | None,
    typer.Option(help="Diagnosis: share of the positives that the threshold finds; else the Youden index decides."),
]


def train_diagnosis_command(
    data: Path,
    output: Path,
    *,
    weights: str | None = None,
    strategy: "Strategy | None" = None,
    test: Path | None = None,
    old_data: Path | None = None,
    fractions: tuple[float, ...] = (),
    seeds: int = 1,
    sensitivity: float | None = None,
    trust: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Plan, check, train and tell.

    The arguments are those of ``train``, with ``weights``, ``strategy``, ``old_data``, ``fractions`` and ``seeds`` of
    ``finetune``; ``options`` are those of ``DiagnosisOptions``.
    """
    from monai_transfer.bundle.diagnosis_plan import DiagnosisOptions, Sensitivity
    from monai_transfer.bundle.strategy import Strategy
    from monai_transfer.datasets import read_exams
    from monai_transfer.options import checked
    from monai_transfer.workflows import diagnosis as work
    from monai_transfer.workflows.exam_split import choose_exams
    from monai_transfer.workflows.finetuning import Baselines

    if seeds > 1 and not fractions:
        raise UserError("--seeds is for the trainings of --fractions: give them, or omit it.")
    chosen = DiagnosisOptions(**options)
    if sensitivity is not None:
        checked(Sensitivity, sensitivity)
    start = work.read_diagnosis_start(weights) if weights is not None else None
    split = choose_exams(data, test=test, seed=chosen.seed or 0)
    plan = work.plan_diagnosis(split, start, **{**chosen.given, "device": chosen.device})
    _say(plan, plan.kind, "the network of the weights" if start is not None and start.definition else plan.network)
    if start is not None:
        strategy = strategy or Strategy()
        trust = _try_weights(start, plan, strategy, old_data, trust=trust, dry_run=dry_run)
    if dry_run:
        return
    result = work.train_diagnosis(
        split, plan, output,
        start=start,
        strategy=strategy,
        sensitivity=sensitivity,
        old=read_exams(old_data) if old_data is not None else None,
        baselines=Baselines(fractions=fractions, seeds=seeds),
        scratch_rate=chosen.learning_rate or work.SCRATCH_RATE_DIAGNOSIS,  # one that is asked for holds for both arms
        trust=trust,
        overwrite=overwrite,
        resume=resume,
        say=console.say_section,
    )  # fmt: skip
    console.emit_result({"bundle": str(result.bundle.root), **result.report}, result.sentences, as_json=as_json)


def _say(plan: "DiagnosisPlan", kinds: str, network: str) -> None:
    size = " × ".join(map(str, plan.shape))
    console.say(f"{kinds}, {len(plan.class_names)} classes; {network} on images of {size}.")


def _try_weights(
    start: "StartingPoint",
    plan: "DiagnosisPlan",
    strategy: "Strategy",
    old_data: Path | None,
    *,
    trust: bool,
    dry_run: bool,
) -> bool:
    """Say how the weights fit; returns whether foreign code may run."""
    from monai_transfer.workflows.diagnosis import check_diagnosis_weights

    console.say(strategy.describe())
    trusted = start.bundle is not None and console.ask_trust(start.bundle, start.concerns, trust=trust, dry_run=dry_run)
    if old_data is not None and start.bundle is not None:
        trusted = console.settle_trust([start.bundle], trust=trust or trusted, dry_run=dry_run) or trusted
    if not (dry_run and start.concerns):  # trying the weights would build the network: then foreign code would run
        loaded = check_diagnosis_weights(start, plan, strategy, trust=trusted)
        for line in (loaded.summary(), *loaded.remarks()):
            console.say(line)
    return trusted


def adapt_diagnosis_command(
    source: list[Path],
    target: Path,
    output: Path,
    *,
    test: Path | None = None,
    methods: list[str] | None = None,
    oracle: bool = True,
    keep_adapted: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Plan, check, adapt and tell.

    Args:
        source: one set of labelled examinations.
        target: examinations to adapt to.
        output: the bundle folder to make.
        test: labelled target examinations of the scores.
        methods: names of adaptation methods.
        oracle: whether to train the ceiling.
        keep_adapted: whether the adapted weights stay whatever the label-free score says.
        overwrite: whether to write into a folder that holds something.
        resume: whether to go on with trainings that were cut off there.
        dry_run: stop before anything is written.
        as_json: print JSON.
        options: those of ``DiagnosisOptions``.
    """
    from monai_transfer.bundle.diagnosis_plan import DiagnosisOptions
    from monai_transfer.bundle.methods import method_definitions
    from monai_transfer.workflows import diagnosis_adaptation as work

    if len(source) != 1:
        raise UserError("Give one --source, a set of labelled examinations, with --task diagnosis.")
    chosen = DiagnosisOptions(**options)
    definitions = method_definitions(methods or list(work.DEFAULT_METHODS)) or []
    domains = work.choose_diagnosis_domains(source[0], target, test=test, seed=chosen.seed or 0)
    plan, kind = work.plan_diagnosis_adaptation(domains, **{**chosen.given, "device": chosen.device})
    _say(plan, f"{plan.kind} → {kind}", plan.network)
    if dry_run:
        return
    result = work.adapt_diagnosis(
        domains,
        plan,
        kind,
        output,
        methods=definitions,
        oracle=oracle,
        choose=not keep_adapted,
        overwrite=overwrite,
        resume=resume,
        say=console.say_section,
    )
    console.emit_result({"bundle": str(result.bundle.root), **result.report}, result.sentences, as_json=as_json)


def adapt_diagnosis_bundle_command(
    bundle: Path,
    target: Path,
    output: Path,
    *,
    test: Path | None = None,
    trust: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
    device: str = "auto",
    **settings: Any,
) -> None:
    """Adapt a trained bundle to the target's images alone, and tell; ``settings`` are those of ``TestTimeSettings``."""
    from monai_transfer.datasets import read_exams
    from monai_transfer.options import given_of
    from monai_transfer.workflows.diagnosis_source_free import adapt_diagnosis_bundle
    from monai_transfer.workflows.source_free import TestTimeSettings

    chosen = TestTimeSettings(**given_of(settings))
    images = read_exams(target)
    held = (images if test is None else read_exams(test)).labelled
    console.say(f"{len(images)} image(s) to adapt to, {chosen.steps} steps; {len(held)} to score.")
    trusted = console.settle_trust([bundle], trust=trust, dry_run=dry_run)
    if dry_run:
        return
    made = adapt_diagnosis_bundle(
        bundle, images, output, test=held, settings=chosen, device=device, trust=trusted, overwrite=overwrite
    )
    console.emit_result(made.as_report(), (*made.sentences, f"Bundle: {made.bundle.root}"), as_json=as_json)


def compare_diagnosis_command(
    source: Path,
    target: Path,
    output: Path,
    *,
    test: Path | None,
    methods: list[str],
    seeds: list[int],
    dry_run: bool = False,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Plan, check, compare and tell; ``options`` are those of ``DiagnosisOptions``."""
    from monai_transfer.bundle.diagnosis_plan import DiagnosisOptions
    from monai_transfer.bundle.methods import method_definitions
    from monai_transfer.workflows import diagnosis_adaptation as work
    from monai_transfer.workflows.diagnosis_comparison import DIAGNOSIS_METHODS, TENT, compare_diagnosis

    chosen = DiagnosisOptions(**options)
    named = [TENT if name.upper() == TENT else name for name in methods or DIAGNOSIS_METHODS]
    arms = {name: [] if name == TENT else method_definitions(name.split("+")) or [] for name in named}
    domains = work.choose_diagnosis_domains(source, target, test=test)
    plan, kind = work.plan_diagnosis_adaptation(domains, **{**chosen.given, "device": chosen.device})
    _say(plan, f"{plan.kind} → {kind}", plan.network)
    console.say(f"{', '.join(arms)}; {len(seeds)} seed(s), {plan.steps} steps each.")
    if dry_run:
        return
    made = compare_diagnosis(domains, plan, kind, output, methods=arms, seeds=seeds, say=console.say_section)
    console.emit_result(made.as_dict(), [made.table, *made.sentences], as_json=as_json)
