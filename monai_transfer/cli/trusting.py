"""The question of trust as a command asks it: before anything is read, written or run."""

import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from monai_transfer.cli import console


def settle_trust(bundles: Iterable[Path], *, trust: bool, dry_run: bool = False) -> bool:
    """Look at bundles without evaluating them, and decide whether the code that they name may run.

    Args:
        bundles: their folders.
        trust: the ``--trust`` option.
        dry_run: nothing will run, so what a bundle asks for is told and stops nobody.

    Returns:
        whether foreign code may run.

    Raises:
        UntrustedBundleError: a foreign bundle names code of its own, and nobody said that it may run.
    """
    from monai_transfer.bundle.facts import inspect_bundle

    answers = []
    for bundle in bundles:
        facts = inspect_bundle(bundle)
        if facts.foreign and not facts.concerns:
            console.note(f"{bundle} was not made by this installation; all that it asks for is known to be harmless.")
        answers.append(ask_trust(facts.root, facts.concerns, trust=trust, dry_run=dry_run))
    return any(answers)


def ask_trust(root: Path, concerns: tuple[str, ...], *, trust: bool, dry_run: bool = False) -> bool:
    """Decide about one bundle; ask where somebody sits at a terminal.

    Returns:
        whether its code may run; False also where it names none.

    Raises:
        UntrustedBundleError: it names code, and nobody said that it may run.
    """
    from monai_transfer.bundle.trust import UntrustedBundleError

    if not concerns or trust:
        return bool(concerns)
    refusal = UntrustedBundleError(root, concerns)
    if dry_run:
        console.note(str(refusal))
        return False
    if sys.stdin.isatty() and console.err.is_terminal:
        console.note(f"{root} was not made by this installation, or was edited since. It would run:")
        for line in concerns:
            console.say(f"  {line}")
        if typer.confirm("Do you trust all of it?", default=False, err=True):
            return True
    raise refusal
