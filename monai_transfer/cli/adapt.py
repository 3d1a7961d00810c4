"""``monai-transfer adapt``: a bundle for the target from labels of the source."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    CasesOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    NetworkOption,
    OverwriteOption,
    SeedOption,
    SpacingOption,
    StepsOption,
    split_list,
    split_numbers,
)


def adapt(
    source: Annotated[Path, typer.Option(help="Labelled data set.")],
    target: Annotated[
        Path, typer.Option(help="Data set of the domain to adapt to; its labels are used for scoring only.")
    ],
    output: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    test: Annotated[Path | None, typer.Option(help="Labelled target data set for the scores.")] = None,
    source_cases: CasesOption = None,
    target_cases: CasesOption = None,
    test_cases: CasesOption = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method by name (DANN, MeanTeacher, …) or import path; repeat to combine.")
    ] = None,
    network: NetworkOption = None,
    spacing: SpacingOption = None,
    steps: StepsOption = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases per domain and step.")] = None,
    oracle: Annotated[bool, typer.Option(help="Train the ceiling too, where target labels allow it.")] = True,
    keep_adapted: Annotated[
        bool, typer.Option("--keep-adapted", help="Keep the adapted weights even where source-only looks better.")
    ] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Adapt to a domain without labels and report source-only, adapted and oracle.

    Example: monai-transfer adapt --source CT --target MR --output ct_to_mr
    """
    from monai_transfer.workflows.adaptation import adapt as run
    from monai_transfer.workflows.adaptation import choose_domains, plan_adaptation
    from monai_transfer.workflows.methods import method_definitions
    from monai_transfer.workflows.reporting import report_adaptation

    domains = choose_domains(
        source,
        target,
        test,
        source_cases=split_list(source_cases),
        target_cases=split_list(target_cases),
        test_cases=split_list(test_cases),
    )
    plan = plan_adaptation(
        domains,
        device=device,
        spacing=split_numbers(spacing, "--spacing"),
        network=network,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
    )
    definitions = method_definitions(method)
    for note in domains.notes:
        console.say(note)
    console.say_plan(plan)
    if dry_run:
        return
    result = run(
        domains,
        plan,
        output,
        methods=definitions,
        oracle=oracle,
        choose=not keep_adapted,
        overwrite=overwrite,
        say=console.say_section,
    )
    page = report_adaptation(result, output)
    summary = result.summary
    if as_json:
        console.emit_json(summary.as_report())
    else:
        for sentence in summary.sentences:
            console.out.print(sentence, highlight=False)
        console.out.print(f"Report: {page}", highlight=False)
