"""Where the commands write: results on standard output, everything else on standard error."""

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape

out = Console()
err = Console(stderr=True)


def error(message: str) -> None:
    """Print one sentence to standard error."""
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def emit_json(payload: Any) -> None:
    """Print ``payload`` as JSON to standard output."""
    print(json.dumps(payload, indent=2, default=str))


def emit_result(report: Any, sentences: Iterable[str], *, as_json: bool) -> None:
    """Print a result to standard output: as JSON, or in sentences."""
    if as_json:
        emit_json(report)
        return
    tell(*sentences)


def tell(*sentences: str) -> None:
    """Print sentences to standard output, a line each: a narrow terminal breaks none, and brackets stay as they are."""
    for sentence in sentences:
        out.print(sentence, markup=False, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line to standard error."""
    err.print(message, markup=False, highlight=False, soft_wrap=True)


def note(message: str) -> None:
    """Print one line to standard error that should be seen."""
    err.print(f"[bold yellow]note:[/] {escape(message)}", highlight=False, soft_wrap=True)


def say_section(message: str) -> None:
    """Print the head of a part of a long run to standard error."""
    err.print(f"[bold]{escape(message)}[/]", highlight=False, soft_wrap=True)


def say_plan(plan: Any) -> None:
    """Print what will be trained, in one line, to standard error."""
    sources = (plan.source_modality, *plan.further_modalities)
    modality = " + ".join(source.upper() for source in sources)
    if set(sources) != {plan.target_modality}:
        modality += f" → {plan.target_modality.upper()}"
    grid = " × ".join(f"{step:g}" for step in plan.spacing)
    size = " × ".join(str(length) for length in plan.roi_size)
    say(f"{modality}, {plan.classes - 1} labels; {plan.network} on a grid of {grid} mm, windows of {size} voxels.")
