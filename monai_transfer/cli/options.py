"""Options that mean the same in every command."""

from typing import Annotated, TypeVar

import typer

from monai_transfer.errors import UserError
from monai_transfer.options import Precision, Task

Number = TypeVar("Number", int, float)

JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable result on standard output.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
SeedOption = Annotated[int, typer.Option(help="Seed of every random generator.")]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="Run on Dask: local:N processes, tcp://HOST:PORT, or N jobs of slurm:N, pbs:N, kubernetes:N."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Run the code that a bundle names which was not made by this installation.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds something.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the same command's training that was cut off in --output.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        help="Trainings at once, which share the threads; by default as many as a CPU has threads and memory for, and "
        "one on a GPU."
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="What every network starts from: a file, a bundle, or none; shapes:unet by default, where it fits.",
    ),
]
CasesOption = Annotated[str | None, typer.Option(help="Case names or patterns, separated by commas.")]
FoldOption = Annotated[
    int | None, typer.Option(help="Fold of a datalist that is held out and scored; the first by default.")
]
TaskOption = Annotated[Task, typer.Option(help="What the labels say: label maps, or a class per image.")]
NetworkOption = Annotated[
    str | None, typer.Option(help="unet, unet_with_structure (the usual one of adapt), resnet18, vgg16_bn, …")
]
SpacingOption = Annotated[str | None, typer.Option(help="Working grid in mm: one number, or one per axis.")]
MinutesOption = Annotated[
    float | None,
    typer.Option(help="Time of all trainings together, in place of --steps: decides grid and steps by a measurement."),
]
TrainingPrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="Of the network in training: float32, bfloat16, float16 (GPU); by default bfloat16 on a CPU that has it.",
    ),
]
StepsOption = Annotated[int | None, typer.Option(help="Optimizer steps.")]
AugmentationOption = Annotated[
    str | None,
    typer.Option(
        help="Of the images' appearance: standard, modality (random contrasts, to be fine-tuned on another one), "
        "gin, nnunet or none.",
        show_default="standard",
    ),
]
ChannelDropoutOption = Annotated[
    float | None, typer.Option(help="Share of the training images of several channels that lose some; 0.25 by default.")
]
AssumeAffineOption = Annotated[
    bool, typer.Option("--assume-affine", help="Take the guess of files that do not say how they lie in space.")
]
AllowIrregularOption = Annotated[
    bool, typer.Option("--allow-irregular", help="Interpolate missing or uneven DICOM slices.")
]


def three_numbers(text: str, option: str, kind: type[Number]) -> tuple[Number, Number, Number]:
    """Three numbers with commas between.

    Raises:
        UserError: they are none.
    """
    try:
        first, second, third = (kind(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{option} {text} is not possible: give three numbers with commas between, such as 512,512,200."
        ) from None
    return first, second, third
