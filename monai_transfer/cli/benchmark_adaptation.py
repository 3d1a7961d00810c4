"""``monai-transfer benchmark adaptation``: methods side by side on the user's own data."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    CasesOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    NetworkOption,
    SpacingOption,
    split_list,
    split_numbers,
)
from monai_transfer.errors import UserError
from monai_transfer.options import Seed, checked


def adaptation(
    source: Annotated[Path, typer.Option(help="Labelled data set.")],
    target: Annotated[Path, typer.Option(help="Data set of the domain to adapt to; its labels train the oracle only.")],
    output: Annotated[
        Path, typer.Option(help="Folder of the runs and the scoreboard; a second call goes on there.")
    ] = Path("scoreboard"),
    test: Annotated[Path | None, typer.Option(help="Labelled target data set for the scores.")] = None,
    source_cases: CasesOption = None,
    target_cases: CasesOption = None,
    test_cases: CasesOption = None,
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
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare adaptation methods: source-only, each method, oracle; share of the gap, spread, cost.

    Example: monai-transfer benchmark adaptation --source CT --target MR --methods Default,DANN
    """
    from monai_transfer.bundle.plan import PlanOptions
    from monai_transfer.workflows.adaptation import choose_domains, plan_adaptation
    from monai_transfer.workflows.scoreboard import choose_arms, compare_methods, report_comparison

    arms, numbers = choose_arms(split_list(methods)), _seeds(seeds)
    options = PlanOptions(device=device, spacing=split_numbers(spacing, "--spacing"), network=network, steps=steps)
    domains = choose_domains(
        source,
        target,
        test,
        source_cases=split_list(source_cases),
        target_cases=split_list(target_cases),
        test_cases=split_list(test_cases),
    )
    plan = plan_adaptation(domains, **options.given)
    for note in domains.notes:
        console.say(note)
    console.say_plan(plan)
    console.say(f"{', '.join(arm.name for arm in arms)}; {len(numbers)} seed(s), {plan.steps} steps each.")
    if dry_run:
        return
    result = compare_methods(domains, plan, output, arms=arms, seeds=numbers, say=console.say_section)
    page = report_comparison(result)
    board = result.scoreboard
    sentences = (board.headline, *board.warnings, f"Scoreboard: {page}")
    console.emit_result(board.as_report(), sentences, as_json=as_json)
    if result.failures:
        raise typer.Exit(1)


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in split_list(text)]
    except ValueError:
        seeds = []
    if not seeds:
        raise UserError(f"--seeds {text} is not possible: give whole numbers with commas between, such as 0,1,2.")
    return [checked(Annotated[Seed, Field(title="--seeds")], seed) for seed in seeds]
