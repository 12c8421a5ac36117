"""Progress on standard error with step count and remaining time: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

LINE_EVERY = 10.0
"""Seconds between two lines where standard error is not a terminal."""


@contextmanager
def progress(total: int, shown: bool = True, what: str = "refining") -> Iterator[Callable[[str], None]]:
    """Yields a function to call with the stage's name after each of `total` steps of `what`."""
    if not shown:
        yield lambda stage: None
    elif sys.stderr.isatty():
        with _bar(total) as advance:
            yield advance
    else:
        yield _lines(total, what)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=total)

        def advance(stage: str) -> None:
            bars.update(task, advance=1, description=stage)

        try:
            yield advance
        except BaseException:
            # The one line that says what went wrong should not follow half a bar.
            bars.live.transient = True
            raise
        bars.update(task, completed=total, description="done")


def _lines(total: int, what: str) -> Callable[[str], None]:
    start = last = time.monotonic()
    done = 0
    sys.stderr.write(f"nc-refiner: {what}, 0 of {total} steps\n")
    sys.stderr.flush()

    def advance(stage: str) -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= LINE_EVERY:
            last = now
            left = (now - start) / done * max(0, total - done)
            sys.stderr.write(f"nc-refiner: {stage}, {done} of {total} steps, about {left:.0f} s left\n")
            sys.stderr.flush()

    return advance
