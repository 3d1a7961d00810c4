"""One progress bar for work that goes case by case."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from monai_transfer.cli import console
from monai_transfer.progress import tell_progress
from monai_transfer.text import one_line


@contextmanager
def case_progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a callback of (done, all, name) that draws a bar on standard error, if that is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.err, disable=not console.draws_bars(), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, name: str) -> None:
            tell_progress(title, done, total, name=name)
            bar.update(task, completed=done, total=total, description=one_line(f"{title} {name}"))

        yield update
