"""Options that mean the same in every command."""

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import typer

from monai_transfer.errors import UserError
from monai_transfer.options import Task

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
CasesOption = Annotated[str | None, typer.Option(help="Case names or patterns, separated by commas.")]
FoldOption = Annotated[
    int | None, typer.Option(help="Fold of a datalist that is held out and scored; the first by default.")
]
TaskOption = Annotated[Task, typer.Option(help="What the labels say: label maps, or a class per image.")]
NetworkOption = Annotated[str | None, typer.Option(help="unet, unet_bn, resnet18, vgg16_bn, densenet121, …")]
SpacingOption = Annotated[str | None, typer.Option(help="Working grid in mm: one number, or one per axis.")]
MinutesOption = Annotated[
    float | None,
    typer.Option(help="Time of all trainings together, in place of --steps: decides grid and steps by a measurement."),
]
StepsOption = Annotated[int | None, typer.Option(help="Optimizer steps.")]
ChannelDropoutOption = Annotated[
    float | None,
    typer.Option(help="Share of the training images of several channels that lose some; 0.25 by default."),
]
AssumeAffineOption = Annotated[
    bool,
    typer.Option("--assume-affine", help="Take the guess of files that do not say how they lie in space."),
]
AllowIrregularOption = Annotated[
    bool, typer.Option("--allow-irregular", help="Interpolate missing or uneven DICOM slices.")
]


def split_list(text: str | None) -> list[str]:
    """``"a, b"`` -> ``["a", "b"]``."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def read_numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    """``"1, 2"`` -> ``[1, 2]``; empty where a part is not such a number."""
    try:
        return [kind(part) for part in split_list(text)]
    except ValueError:
        return []


def refuse_given(options: Mapping[str, object], sentence: str) -> None:
    """Refuse options that would do nothing.

    Args:
        options: name -> value; one without a value was not given.
        sentence: says why, with ``{}`` for the first option that was.

    Raises:
        UserError: one was given.
    """
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise UserError(sentence.format(f"--{given.replace('_', '-')}"))


def require_options_of(
    task: str, *, segmentation: Mapping[str, object], diagnosis: Mapping[str, object] | None = None
) -> None:
    """See that no option of the other task is given: it would do nothing.

    Raises:
        UserError: one is.
    """
    other, options = ("segmentation", segmentation) if task == "diagnosis" else ("diagnosis", diagnosis or {})
    refuse_given(options, f"{{}} is for {other}: omit it with --task {task}.")


def split_numbers(text: str | None, option: str) -> tuple[float, float, float] | None:
    """``"1.5"`` -> three times 1.5; ``"1,1,2"`` -> the three numbers.

    Raises:
        UserError: when the text is neither.
    """
    if text is None:
        return None
    numbers = read_numbers(text, float)
    if len(numbers) not in (1, 3):
        raise UserError(f"{option} {text} is not possible: give one number of mm or three, such as 1.5 or 1,1,2.")
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third
