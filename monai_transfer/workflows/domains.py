"""The cases of an adaptation: what it learns from, and what it is tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_transfer.data import CaseDataset, read_dataset, require_sound
from monai_transfer.errors import UserError
from monai_transfer.inference import choose_device
from monai_transfer.workflows.plan import Plan, contiguous_labels, make_plan

TEST_SHARE = 0.3
"""Share of a labelled target that is set aside for testing when no test set is given."""


@dataclass(frozen=True)
class Domains:
    """The cases of one adaptation; no test subject is in any training set.

    Attributes:
        source: labelled training cases.
        target: target training cases; their labels, where there are any, train the oracle alone.
        test: labelled target cases, or ``None`` when there are none.
        notes: sentences about what was set aside and why.
    """

    source: CaseDataset
    target: CaseDataset
    test: CaseDataset | None
    notes: tuple[str, ...] = ()

    @property
    def has_oracle(self) -> bool:
        """Whether enough target training cases carry labels to train the ceiling."""
        return self.test is not None and len(self.target.labelled) > 0


def choose_domains(
    source: str | Path,
    target: str | Path,
    test: str | Path | None = None,
    *,
    source_cases: Sequence[str] = (),
    target_cases: Sequence[str] = (),
    test_cases: Sequence[str] = (),
) -> Domains:
    """Read the domains and keep test subjects out of training.

    Without a test set, a share of a labelled target is set aside. A case whose name also is a test case is taken out of
    source and target: the same person may have been scanned in both.

    Args:
        source: data set with labels.
        target: data set of the domain to adapt to.
        test: labelled target data set for the scores; with ``test_cases`` alone, a part of ``target``.
        source_cases: name patterns of the source training cases; all by default.
        target_cases: name patterns of the target training cases; all by default.
        test_cases: name patterns of the test cases.

    Raises:
        UserError: when a domain has no case left or the source has no labels.
    """
    everything = read_dataset(target)
    labelled = read_dataset(source).select(source_cases or ["*"]).labelled
    if not labelled.cases:
        raise UserError(f"{source} has no labels: adaptation learns from a labelled source; add a labels folder.")
    chosen = everything.select(target_cases or ["*"])
    notes: list[str] = []
    held: CaseDataset | None = None
    if test is not None or test_cases:
        held = (read_dataset(test) if test is not None else everything).select(test_cases or ["*"]).labelled
        if not held.cases:
            raise UserError(f"{test or target} has no labelled test cases; leave --test away to adapt without scores.")
    elif len(chosen.labelled) >= 2:
        held = chosen.labelled.split(TEST_SHARE)[1]
        notes.append(f"{len(held)} of {len(chosen.labelled)} labelled target cases are set aside for testing.")
    names = held.names if held is not None else ()
    training, target_training = labelled.without(names), chosen.without(names)
    if len(training) < len(labelled):
        notes.append(f"{len(labelled) - len(training)} source cases are left out: they bear the name of a test case.")
    if not training.cases or not target_training.cases:
        role, path = ("source", source) if not training.cases else ("target", target)
        raise UserError(f"No {role} case of {path} is left for training once the test cases are taken out.")
    return Domains(training, target_training, held, tuple(notes))


def plan_adaptation(domains: Domains, *, device: str = "auto", **options: Any) -> Plan:
    """Check every case of the domains and plan their training.

    Raises:
        UserError: for the first fault in any data set, or an option out of range.
    """
    source = require_sound(domains.source, labelled=True)
    target = require_sound(domains.target, labelled=False)
    if domains.test is not None:
        require_sound(domains.test, labelled=True)
    names = contiguous_labels(domains.source.names_for(source.label_values))
    return make_plan(source, target, label_names=names, device=choose_device(device), **options)
