"""``monai-transfer benchmark adaptation``: methods side by side on the user's own data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from monai_transfer.cli import console
from monai_transfer.cli.diagnosis_training import SizeOption, compare_diagnosis_command
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    CasesOption,
    ClusterOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    NetworkOption,
    SpacingOption,
    StartOption,
    TaskOption,
    TrainingPrecisionOption,
)
from monai_transfer.errors import UserError
from monai_transfer.options import (
    Jobs,
    Seed,
    checked,
    read_numbers,
    refuse_given,
    require_options_of,
    split_list,
    split_numbers,
)

if TYPE_CHECKING:
    from monai_transfer.bundle.request import PlanOptions


def adaptation(
    source: Annotated[Path | None, typer.Option(help="Labelled data set.")] = None,
    target: Annotated[Path | None, typer.Option(help="Data set to adapt to; its labels train the oracle.")] = None,
    output: Annotated[
        Path, typer.Option(help="Folder of the runs and the scoreboard; a second call goes on there.")
    ] = Path("scoreboard"),
    test: Annotated[Path | None, typer.Option(help="Labelled target data set for the scores.")] = None,
    source_cases: CasesOption = None,
    target_cases: CasesOption = None,
    test_cases: CasesOption = None,
    pairs: Annotated[Path | None, typer.Option(help="TOML file of pairs (docs/pairs.md), not one pair.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between; + combines, Augmentation is modality-breaking augmentation (GIN, "
            "FourierStyle, … are published ones), Default the bundle's recipe, all every one."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds with commas between.")] = "0,1,2",
    steps: Annotated[int | None, typer.Option("--steps", "--budget", help="Optimizer steps of each training.")] = None,
    spacing: SpacingOption = None,
    network: NetworkOption = None,
    weights: StartOption = None,
    precision: TrainingPrecisionOption = None,
    task: TaskOption = "segmentation",
    size: SizeOption = None,
    jobs: Annotated[int, typer.Option(help="Trainings at once, each in a process with one thread.")] = 1,
    cluster: ClusterOption = None,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare adaptation methods: source-only, each method, oracle; share of the gap, spread, cost.

    With --task diagnosis SOURCE, TARGET and TEST hold examinations, and the score is the AUC.

    Example: monai-transfer benchmark adaptation --source CT --target MR --methods Default,DANN
    """
    from monai_transfer.bundle.request import PlanOptions
    from monai_transfer.workflows.scoreboard import choose_arms

    at_once = _at_once(jobs, cluster)
    data: dict[str, Any] = {"source": source, "target": target, "test": test}
    cases = {"source_cases": source_cases, "target_cases": target_cases, "test_cases": test_cases}
    reads = {"assume_affine": assume_affine, "allow_irregular": allow_irregular}
    common: dict[str, Any] = {"device": device, "spacing": split_numbers(spacing, "--spacing"), "network": network}
    how: dict[str, Any] = {"seeds": _seeds(seeds), "dry_run": dry_run, "as_json": as_json}
    require_options_of(task, segmentation={}, diagnosis={"size": size})
    if task == "diagnosis":
        many = {"weights": weights, "precision": precision, "jobs": at_once > 1, "cluster": cluster is not None}
        _require_diagnosis({**cases, **reads, "pairs": pairs, **many}, source, target)
        how |= {"steps": steps, "size": size, "methods": split_list(methods)}
        return compare_diagnosis_command(**data, output=output, **how, **common)
    how |= {"arms": choose_arms(split_list(methods)), "weights": weights, "jobs": at_once, "cluster": cluster}
    options = PlanOptions(steps=steps, precision=precision, **common)
    if pairs is not None:
        return _compare_pairs(pairs, output, options, {**data, **cases, **reads}, **how)
    _compare(data, {name: split_list(text) for name, text in cases.items()}, reads, output, options.given, **how)


def _compare(
    data: dict[str, Any],
    cases: dict[str, Any],
    reads: dict[str, bool],
    output: Path,
    options: dict[str, Any],
    *,
    weights: str | None,
    arms: Any,
    seeds: list[int],
    jobs: int,
    cluster: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compare on one pair, as the options name it."""
    from monai_transfer.volumes.volume import Reading
    from monai_transfer.workflows.adaptation import choose_domains, plan_from
    from monai_transfer.workflows.scoreboard import compare_methods, report_comparison

    if missing := next((name for name in ("source", "target") if data[name] is None), None):
        raise UserError(f"--{missing} is missing: give --source and --target, or --pairs.")
    domains = choose_domains(**data, **cases, reading=Reading(**reads))
    plan = plan_from(domains, weights, **options)
    for note in domains.notes:
        console.say(note)
    console.say_plan(plan)
    console.say(f"{', '.join(arm.name for arm in arms)}; {len(seeds)} seed(s), {plan.steps} steps each.")
    if dry_run:
        return console.emit_plan(plan, as_json=as_json)
    result = compare_methods(
        domains, plan, output, arms=arms, seeds=seeds, jobs=jobs, cluster=cluster, say=console.say_section
    )
    page = report_comparison(result)
    board = result.scoreboard
    sentences = (board.headline, *board.warnings, f"Scoreboard: {page}")
    console.emit_result(board.as_report(), sentences, as_json=as_json)
    if result.failures:
        raise typer.Exit(1)


def _compare_pairs(pairs: Path, output: Path, options: "PlanOptions", named: Mapping[str, object], **how: Any) -> None:
    from monai_transfer.cli.benchmark_pairs import compare_listed

    refuse_given(
        {name: value not in (None, False) for name, value in named.items()}, "--pairs names the data itself: omit {}."
    )
    compare_listed(pairs, output, options, **how)


def _require_diagnosis(refused: Mapping[str, object], source: Path | None, target: Path | None) -> None:
    refuse_given(refused, "{} is for segmentation: omit it with --task diagnosis.")
    if source is None or target is None:
        raise UserError("Give --source and --target with --task diagnosis.")


def _at_once(jobs: int, cluster: str | None) -> int:
    from monai_transfer.workflows.cluster import require_cluster

    number: int = checked(Jobs, jobs)
    if cluster is not None:
        refuse_given({"jobs": number > 1}, "--cluster trains on its workers: omit {}.")
        require_cluster(cluster)
    return number


def _seeds(text: str) -> list[int]:
    seeds = read_numbers(text, int)
    if not seeds:
        raise UserError(f"--seeds {text} is not possible: give whole numbers with commas between, such as 0,1,2.")
    if len(set(seeds)) < len(seeds):  # one run would count as two, and show no spread
        raise UserError(f"--seeds {text} names a seed twice: give each once.")
    return [checked(Annotated[Seed, Field(title="--seeds")], seed) for seed in seeds]
