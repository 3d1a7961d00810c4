"""``monai-transfer translate``: the source's volumes in the target's appearance, as a labelled data set."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    CasesOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    OverwriteOption,
    SeedOption,
    SpacingOption,
    StepsOption,
)
from monai_transfer.cli.progress import case_progress
from monai_transfer.options import split_list, split_numbers


def translate(
    source: Annotated[Path, typer.Option(help="Labelled data set.")],
    target: Annotated[Path, typer.Option(help="Data set whose appearance is wanted; its labels are not read.")],
    output: Annotated[Path, typer.Option(help="Data set to write: images/, labels/ and dataset.json.")],
    source_cases: CasesOption = None,
    target_cases: CasesOption = None,
    spacing: SpacingOption = None,
    steps: StepsOption = None,
    width: Annotated[int, typer.Option(help="Width of the generator's first layer.")] = 16,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn from unpaired volumes to make the source look like the target, and write it with its labels (CUT).

    Costly: a GPU is advised. Look at the translations, then adapt from them: adapt --source OUTPUT --target DIR.

    Example: monai-transfer translate --source CT --target MR --output ct_as_mr --steps 20000 --device cuda
    """
    from monai_transfer.bundle.request import PlanOptions, choose_domains, plan_adaptation
    from monai_transfer.options import GeneratorWidth, checked
    from monai_transfer.volumes.volume import Reading

    options = PlanOptions(
        device=device, spacing=split_numbers(spacing, "--spacing"), steps=steps, batch_size=1, seed=seed
    )
    checked(GeneratorWidth, width)
    domains = choose_domains(
        source,
        target,
        source_cases=split_list(source_cases),
        target_cases=split_list(target_cases),
        reading=Reading(assume_affine, allow_irregular),
    )

    from monai_transfer.workflows.translating import translate_source

    plan = plan_adaptation(domains, body_scale=1.0, **options.given)  # the source's own volumes are written
    for note in domains.notes:
        console.say(note)
    console.say_plan(plan)
    console.say(f"{len(domains.source)} source and {len(domains.target)} target volumes, {plan.steps} steps.")
    if dry_run:
        return console.emit_plan(plan, as_json=as_json)
    with case_progress("translation") as progress:
        losses = translate_source(domains, plan, output, width=width, overwrite=overwrite, progress=progress)
    if as_json:
        console.emit_json({"output": str(output), "cases": list(domains.source.names), "losses": losses})
    else:
        console.say(f"{len(domains.source)} translated volumes in {output}")
