"""Whether the weights were a burden, and what the bundle keeps then."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from monai_transfer.bundle.folder import BundleFolder
from monai_transfer.bundle.strategy import Strategy
from monai_transfer.files import copy_file
from monai_transfer.workflows.finetuning_cases import FineTuningCases
from monai_transfer.workflows.finetuning_runs import Run

MARGIN = 0.005
"""What scratch must be ahead by in validation Dice: below it, weights that hold more are kept."""

LEAST_GAIN = 0.01
"""What the start must save of the training loss of the last epoch where there is no other evidence. A start that helps
shows there: over 36 trainings from one case on three sets, what they saved beside their twins and what they gained in
Dice of the test went together (correlation 0.81). Of 0, 0.005, 0.01, 0.015, 0.02 and 0.03 this kept the most Dice, and
no set lost more than 0.005."""

_PLAIN = Strategy(minimum_share=0)
"""The default strategy, whatever share of the encoder the weights have to cover."""


@dataclass(frozen=True)
class StartChoice:
    """Which of two networks a fine-tuned bundle keeps.

    Attributes:
        kept: ``transfer``, the fine-tuned weights, or ``scratch``, those of the twin.
        transfer: validation Dice of the fine-tuned network at the end of the training, or its training loss.
        scratch: that of the twin.
        cases: the cases that decide, which neither learnt from and which are not scored; none where the loss decides.

    Example:
        >>> StartChoice("scratch", 0.7, 0.75, ("a", "b")).sentence
        'On 2 validation case(s) the start is a burden (Dice 0.700, 0.750 from scratch): the bundle keeps scratch.'
        >>> StartChoice("transfer", 0.4, 0.5).sentence
        'By the training loss the start is none (0.400, 0.500 from scratch): the bundle keeps the fine-tuned weights.'
    """

    kept: Literal["transfer", "scratch"]
    transfer: float
    scratch: float
    cases: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The choice in plain words."""
        burden = "is a burden" if self.kept == "scratch" else "is none"
        kept = "scratch" if self.kept == "scratch" else "the fine-tuned weights"
        by, of = (f"On {len(self.cases)} validation case(s)", "Dice ") if self.cases else ("By the training loss", "")
        figures = f"({of}{self.transfer:.3f}, {self.scratch:.3f} from scratch)"
        return f"{by} the start {burden} {figures}: the bundle keeps {kept}."


def choose_start(runs: Sequence[Run], cases: FineTuningCases, strategy: Strategy = _PLAIN) -> StartChoice | None:
    """Compare the fine-tuned network with its twin of the same seed.

    Validation cases of their own decide. Where there are none, the training loss does, unless the strategy is another
    than the default, which changes what the loss means.

    Args:
        runs: the fine-tuned network, and its twin.
        cases: what they learnt from.
        strategy: how it was fine-tuned.

    Returns:
        The choice; ``None`` where there is no twin, or nothing to decide by.
    """
    first = {run.arm: run for run in runs if run.seed == runs[0].seed}
    if len(first) < 2:
        return None
    transfer, scratch = first["transfer"], first["scratch"]
    if cases.decides and cases.validation is not None:
        if not (transfer.curve and scratch.curve):
            return None
        ours, theirs = transfer.curve[-1][1], scratch.curve[-1][1]
        return StartChoice(_kept(theirs <= ours + MARGIN), ours, theirs, tuple(cases.validation.names))
    if transfer.loss is None or scratch.loss is None or replace(strategy, minimum_share=0) != _PLAIN:
        return None
    return StartChoice(_kept(transfer.loss <= scratch.loss - LEAST_GAIN), transfer.loss, scratch.loss)


def _kept(helps: bool) -> Literal["transfer", "scratch"]:
    return "transfer" if helps else "scratch"


def keep_scratch(tuned: BundleFolder, scratch: BundleFolder) -> None:
    """Give the bundle its twin's weights; the fine-tuned ones stay beside them as ``models/transfer.pt``."""
    copy_file(tuned.weights, tuned.weights.with_name("transfer.pt"))
    copy_file(scratch.weights, tuned.weights)


def undo_choice(root: Path) -> None:
    """Give a bundle that kept scratch its fine-tuned weights again, before its command goes on or is repeated."""
    transfer, kept = root / "models" / "transfer.pt", root / "models" / "model.pt"
    if transfer.is_file():
        transfer.replace(kept)
