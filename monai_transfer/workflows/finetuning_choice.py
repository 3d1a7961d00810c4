"""Whether the weights were a burden, and what the bundle keeps then."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.files import replacing
from monai_transfer.workflows.finetuning_cases import FineTuningCases
from monai_transfer.workflows.finetuning_runs import Run

MARGIN = 0.005
"""What scratch must be ahead by in validation Dice: below it, weights that hold more are kept."""


@dataclass(frozen=True)
class StartChoice:
    """Which of two networks a fine-tuned bundle keeps.

    Attributes:
        kept: ``transfer``, the fine-tuned weights, or ``scratch``, those of the twin.
        transfer: validation Dice of the fine-tuned network at the end of the training.
        scratch: that of the twin.
        cases: the cases that decide, which neither learnt from and which are not scored.

    Example:
        >>> StartChoice("scratch", 0.7, 0.75, ("a", "b")).sentence
        'On 2 validation case(s) the start is a burden (Dice 0.700, 0.750 from scratch): the bundle keeps scratch.'
    """

    kept: Literal["transfer", "scratch"]
    transfer: float
    scratch: float
    cases: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The choice in plain words."""
        burden = "is a burden" if self.kept == "scratch" else "is none"
        kept = "scratch" if self.kept == "scratch" else "the fine-tuned weights"
        return (
            f"On {len(self.cases)} validation case(s) the start {burden} (Dice {self.transfer:.3f}, {self.scratch:.3f} "
            f"from scratch): the bundle keeps {kept}."
        )


def choose_start(runs: Sequence[Run], cases: FineTuningCases) -> StartChoice | None:
    """Compare the fine-tuned network with its twin of the same seed on validation cases of their own.

    Returns:
        The choice; ``None`` without such cases, or where there is no twin.
    """
    ends = {run.arm: run.curve[-1][1] for run in runs if run.seed == runs[0].seed and run.curve}
    if not cases.decides or cases.validation is None or len(ends) < 2:
        return None
    transfer, scratch = ends["transfer"], ends["scratch"]
    kept: Literal["transfer", "scratch"] = "scratch" if scratch > transfer + MARGIN else "transfer"
    return StartChoice(kept, transfer, scratch, tuple(cases.validation.names))


def keep_scratch(tuned: BundleFolder, scratch: BundleFolder) -> None:
    """Give the bundle its twin's weights; the fine-tuned ones stay beside them as ``models/transfer.pt``."""
    with replacing(tuned.weights.with_name("transfer.pt")) as file:
        file.write(tuned.weights.read_bytes())
    with replacing(tuned.weights) as file:
        file.write(scratch.weights.read_bytes())


def undo_choice(root: Path) -> None:
    """Give a bundle that kept scratch its fine-tuned weights again, before its command goes on or is repeated."""
    transfer, kept = root / "models" / "transfer.pt", root / "models" / "model.pt"
    if transfer.is_file():
        transfer.replace(kept)
