"""The cases of a fine-tuning: what it learns from, what it watches, and what it is scored on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monai_transfer.bundle.strategy import Strategy
from monai_transfer.datasets import CaseDataset, read_dataset
from monai_transfer.errors import UserError
from monai_transfer.options import JointWeight, checked
from monai_transfer.volumes.volume import Reading
from monai_transfer.workflows.training import VALIDATION_SHARE, LabelledSplit, choose_cases

LEAST_TO_CHOOSE = 5
"""Training cases of which one may be set aside to choose the start by: of fewer, each is worth more in the training."""


@dataclass(frozen=True)
class FineTuningCases:
    """The cases of a fine-tuning.

    Attributes:
        training: labelled cases to learn from.
        validation: labelled cases of the curve; the held ones where nothing is decided by them.
        held: labelled cases of the final scores, None where there are too few.
        joint: a second labelled set to learn from in every step, with labels of the same meaning.
        joint_weight: weight of its loss beside the training cases' 1.
    """

    training: CaseDataset
    validation: CaseDataset | None
    held: CaseDataset | None
    joint: CaseDataset | None = None
    joint_weight: float = 1.0

    @property
    def decides(self) -> bool:
        """Whether the validation cases are others than the held ones, so that something may be decided by them."""
        held = () if self.held is None else self.held.names
        return self.validation is not None and not set(self.validation.names) & set(held)

    def only(self, names: Sequence[str]) -> "FineTuningCases":
        """The same with these training cases only."""
        return replace(self, training=self.training.only(names))


def choose_finetuning_cases(
    data: str | Path,
    *,
    test: str | Path | None = None,
    cases: Sequence[str] = (),
    test_cases: Sequence[str] = (),
    strategy: Strategy,
    fold: int | None = None,
    choose_start: bool = False,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> FineTuningCases:
    """Choose what to learn from, what to watch and what to score.

    Without a test set, a fold or the last fifth of the labelled cases is held out (:func:`choose_cases`). Where the
    validation score decides (plateau, early stopping, the start), its cases are taken from the training's, never from
    the held ones. With fewer than :data:`LEAST_TO_CHOOSE` of them the start is not chosen: all of them are learnt from.

    Raises:
        UserError: there are too few labelled cases.
    """
    if test is None and not test_cases:
        split = choose_cases(data, cases, fold=fold, reading=reading)
    elif fold is not None:
        raise UserError("--fold holds cases of --data out, and --test and --test-cases do too: omit one of them.")
    else:
        training = read_dataset(data, reading=reading).select(cases or ["*"]).labelled
        held = read_dataset(test if test is not None else data, reading=reading).select(test_cases or ["*"]).labelled
        if not held.cases:
            raise UserError(f"{test or data} has no labelled test cases: add labels, or omit --test.")
        split = LabelledSplit(training.without(held.names), held)
        if not split.training.cases:
            raise UserError(f"No labelled case of {data} is left for training once the test cases are taken out.")
    choose_start = choose_start and len(split.training) >= LEAST_TO_CHOOSE
    if not (strategy.watches_validation or choose_start):
        return FineTuningCases(split.training, split.held, split.held)
    if len(split.training) < 3:
        raise UserError(
            f"{data} has {len(split.training)} training case(s): a plateau and early stopping watch cases of "
            "their own, which takes at least 3; give --unfreeze epochs instead."
        )
    return FineTuningCases(*split.training.split(VALIDATION_SHARE), split.held)


def with_joint(
    cases: FineTuningCases, joint: str | Path, *, names: Sequence[str] = (), weight: float = 1.0
) -> FineTuningCases:
    r"""Learn from a second labelled set too: :math:`L = L_\text{training} + \lambda L_\text{joint} + \Omega`.

    Cases that bear the name of a held one are left out. Its files are read as strictly as those of the first.

    Raises:
        UserError: it has no labelled case, or the weight is not positive.
    """
    checked(JointWeight, weight)
    held = {name for part in (cases.validation, cases.held) if part is not None for name in part.names}
    found = read_dataset(joint, reading=cases.training.reading).select(names or ["*"]).labelled.without(held)
    if not found.cases:
        raise UserError(f"{joint} has no labelled case to learn from: add labels, or omit --joint.")
    return replace(cases, joint=found, joint_weight=weight)
