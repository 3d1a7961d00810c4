"""``monai-transfer profile``: what may travel of a target whose images may not; and ``adapt`` with such a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import (
    AllowIrregularOption,
    AssumeAffineOption,
    CasesOption,
    DeviceOption,
    JsonOption,
    TrustOption,
)
from monai_transfer.options import split_list

if TYPE_CHECKING:
    from monai_transfer.datasets import CaseDataset


def profile_command(
    data: Annotated[Path, typer.Option(help="Data set of the target; its labels are not read.")],
    output: Annotated[Path, typer.Option(help="File to write, JSON.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle that finds the labels to measure; without it only the grid is.")
    ] = None,
    cases: CasesOption = None,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a target in numbers, so that a network can be adapted to it where its images are not.

    The file holds no voxel, no name and no label map: voxel size, field of view, and of up to eight volumes their range
    of intensities, the intensity and size of each label and what lies around them. `adapt` takes it as --target.

    Example: monai-transfer profile --data MR --bundle from_the_ct_site --output mr.json
    """
    from monai_transfer.datasets import read_dataset
    from monai_transfer.machine import require_device
    from monai_transfer.volumes.volume import Reading

    require_device(device)
    images = read_dataset(data, reading=Reading(assume_affine, allow_irregular)).select(split_list(cases) or ["*"])
    trusted = bundle is not None and console.settle_trust([bundle], trust=trust)

    from monai_transfer.workflows.target_profile import measure_target

    profile = measure_target(images, bundle, device=device, trust=trusted)
    profile.write(output)
    report = {"output": str(output), "cases": profile.cases, "measured": len(profile.volumes)}
    told = f"{profile.cases} volume(s), the intensities of {len(profile.volumes)} measured: {output}"
    console.emit_result(report, [told], as_json=as_json)


def holds_profile(target: Path) -> bool:
    """Whether the --target of ``adapt`` is such a file."""
    from monai_transfer.workflows.target_profile import is_profile

    return is_profile(target)


def adapt_to_profile_command(
    source: "CaseDataset",
    target: Path,
    output: Path,
    *,
    weights: str | None,
    overwrite: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """``adapt`` with the file of :func:`profile_command` as its target."""
    from monai_transfer.workflows.adaptation import start_of_adaptation
    from monai_transfer.workflows.profile_adaptation import adapt_to_profile, plan_for_profile
    from monai_transfer.workflows.target_profile import TargetProfile

    profile = TargetProfile.read(target)
    channels = len(source.channel_names)
    start, options["network"] = start_of_adaptation(weights, network=options.get("network"), channels=channels)
    plan = plan_for_profile(source, profile, start, **options)
    console.say_plan(plan)
    if dry_run:
        return console.emit_plan(plan, as_json=as_json)
    made = adapt_to_profile(source, profile, plan, output, overwrite=overwrite, resume=resume, say=console.say_section)
    console.emit_result(made.as_report(), made.sentences, as_json=as_json)
