"""Where the commands write and ask: results on standard output, everything else on standard error."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from monai_transfer.progress import LINES
from monai_transfer.text import one_line


class PlainConsole(Console):
    """A console that shows text as it is: it reads no markup and no emoji names, and drops control characters.

    Names of labels, cases and files reach the terminal through here alone, in lines as well as in the cells of tables.
    Colour is given by ``style`` or a :class:`rich.text.Text`.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render what is given as a string."""
        return super().render_str(one_line(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)


def draws_bars() -> bool:
    """Whether somebody watches, who did not ask for lines."""
    return err.is_terminal and LINES not in os.environ


def error(message: str) -> None:
    """Print one sentence to standard error."""
    err.print(titled("error", message, style="bold red"), soft_wrap=True)


def tell_failures(entries: Iterable[Mapping[str, Any]]) -> int:
    """Print why each input of a batch failed, and say how many did; an entry has a ``status`` and an ``error``."""
    failed = [entry for entry in entries if entry["status"] != "ok"]
    for entry in failed:
        error(str(entry["error"]))
    return len(failed)


def titled(word: str, message: str, *, style: str) -> Text:
    """``word: message`` with the word in a style."""
    return Text.assemble((f"{one_line(word)}:", style), " ", one_line(message))


def emit_json(payload: Any) -> None:
    """Print ``payload`` as JSON to standard output."""
    print(json.dumps(payload, indent=2, default=str))


def emit_result(report: Any, sentences: Iterable[str], *, as_json: bool) -> None:
    """Print a result to standard output: as JSON, or in sentences."""
    if as_json:
        emit_json(report)
        return
    tell(*sentences)


def emit_measured(
    report: Mapping[str, Any], show: Callable[[Any], None], *, output: Path | None = None, as_json: bool
) -> None:
    """Print what a benchmark measured to standard output, as JSON or as ``show`` draws it; ``output`` gets the JSON."""
    from monai_transfer.files import write_text  # here: every command imports this module

    if output is not None:
        write_text(output, json.dumps(report, indent=2) + "\n")
    if as_json:
        emit_json(report)
    else:
        show(report)


def tell(*sentences: str) -> None:
    """Print sentences to standard output, a line each: a narrow terminal breaks none."""
    for sentence in sentences:
        out.print(sentence, soft_wrap=True)


def say(message: str) -> None:
    """Print one line to standard error."""
    err.print(message, soft_wrap=True)


def note(message: str) -> None:
    """Print one line to standard error that should be seen."""
    err.print(titled("note", message, style="bold yellow"), soft_wrap=True)


def say_section(message: str) -> None:
    """Print the head of a part of a long run to standard error."""
    err.print(message, style="bold", soft_wrap=True)


def emit_plan(plan: Any, *, as_json: bool) -> None:
    """End a dry run: with ``--json`` print every choice to standard output; the sentences were said before."""
    if as_json:
        emit_json(dataclasses.asdict(plan))


def say_plan(plan: Any) -> None:
    """Print what will be trained, in one line, to standard error."""
    sources = (plan.source_modality, *plan.further_modalities)
    modality = " + ".join(source.upper() for source in sources)
    if set(sources) != {plan.target_modality}:
        modality += f" → {plan.target_modality.upper()}"
    grid = " × ".join(f"{step:g}" for step in plan.spacing)
    size = " × ".join(str(length) for length in plan.roi_size)
    say(f"{modality}, {plan.classes - 1} labels; {plan.network} on a grid of {grid} mm, windows of {size} voxels.")
    if plan.body_scale != 1:
        say(
            f"The target's bodies are {plan.body_scale:g} times as large as the source's, which are read in that size: "
            "give --body-scale where you know better."
        )


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
            note(f"{bundle} was not made by this installation; all that it asks for is known to be harmless.")
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
        note(str(refusal))
        return False
    if sys.stdin.isatty() and err.is_terminal:
        note(f"{root} was not made by this installation, or was edited since. It would run:")
        for line in concerns:
            say(f"  {line}")
        if typer.confirm("Do you trust all of it?", default=False, err=True):
            return True
    raise refusal
