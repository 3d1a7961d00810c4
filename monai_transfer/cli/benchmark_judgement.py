"""``monai-transfer benchmark judgement``."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import AllowIrregularOption, AssumeAffineOption, DeviceOption, JsonOption, TrustOption


def judgement(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    data: Annotated[Path, typer.Option(help="Labelled data set of the kind that the bundle is for.")],
    unlike: Annotated[list[Path] | None, typer.Option(help="Data set that the bundle is not for; repeat.")] = None,
    assume_affine: AssumeAffineOption = False,
    allow_irregular: AllowIrregularOption = False,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the Dice that `segment --estimate-dice` estimates with the true one, and count what it tells.

    Every case is also looked at flipped along each axis and cut to half, and the images of --unlike as they are.

    Example: monai-transfer benchmark judgement --bundle ct_to_mr --data MR_test --unlike CT
    """
    from monai_transfer.datasets import read_dataset
    from monai_transfer.volumes.volume import Reading
    from monai_transfer.workflows.judge_check import check_judge

    reading = Reading(assume_affine, allow_irregular)
    check = check_judge(
        bundle,
        read_dataset(data, reading=reading),
        unlike={folder.name: read_dataset(folder, reading=reading) for folder in unlike or ()},
        device=device,
        trust=console.settle_trust([bundle], trust=trust),
        say=console.say,
    )
    console.emit_result(check.as_report(), check.sentences, as_json=as_json)
