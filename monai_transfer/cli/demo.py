"""``monai-transfer demo``: the whole story on generated people."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import DeviceOption, JsonOption, SeedOption, StepsOption


def demo(
    output: Annotated[Path, typer.Option(help="Folder for phantoms, bundle and report.")] = Path("demo"),
    steps: StepsOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Adapt from CT phantoms to MR phantoms and report what was gained; a few minutes.

    Example: monai-transfer demo --output demo
    """
    from monai_transfer.machine import choose_device, trainings_at_once
    from monai_transfer.workflows.adaptation import ARMS
    from monai_transfer.workflows.demo import STEPS, run_demo

    jobs = trainings_at_once(choose_device(device), len(ARMS))
    steps = STEPS if steps is None else steps
    result = run_demo(output, steps=steps, device=device, seed=seed, jobs=jobs, say=console.say_section)
    summary = result.summary
    sentences = (*summary.sentences, f"Report: {output / 'report.html'}")
    console.emit_result(summary.as_report(), sentences, as_json=as_json)
