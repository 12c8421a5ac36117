"""A progress bar on standard error with step count and remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]


@contextmanager
def progress(total: int, shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Yields a function to call with the stage's name after each of `total` steps."""
    if not shown:
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=total)

        def advance(stage: str) -> None:
            bars.update(task, advance=1, description=stage)

        yield advance
        bars.update(task, completed=total, description="done")
