"""Progress on standard error, what is done and the remaining time: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Advance", "progress"]

LINE_EVERY = 10.0
"""Seconds between two lines where standard error is not a terminal."""
WINDOW, REPORTS = 60.0, 8
"""The remaining time follows the pace of the last minute, and at least of so many reports: what a resumed run finds
done says nothing of what is left."""


class Advance(Protocol):
    """To be called after each report's worth of work."""

    def __call__(self, stage: str, steps: int = 1, work: float | None = None) -> None:
        """`steps` of `stage` are done, which were `work` of all work (default: as much as steps)."""


@contextmanager
def progress(
    total: int, shown: bool = True, what: str = "refining", unit: str = "step", work: float | None = None
) -> Iterator[Advance]:
    """Yields a function to call with the stage's name as `total` steps of `what` are done.

    Args:
        total: steps in all.
        shown: False: nothing is shown.
        what: the activity.
        unit: what a step is called, in the singular.
        work: all the work, in any unit; the remaining time follows it. Default: every step is as much.
    """
    if not shown:
        yield _silent
    elif sys.stderr.isatty():
        with _bar(total, work or total) as advance:
            yield advance
    else:
        yield _lines(total, work or total, what, unit)


def _silent(stage: str, steps: int = 1, work: float | None = None) -> None:
    pass


@contextmanager
def _bar(total: int, whole: float) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count = TextColumn("{task.fields[done]}/{task.fields[steps]}")
    columns = (TextColumn("{task.description:<10}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=whole, done=0, steps=total)
        done = 0

        def advance(stage: str, steps: int = 1, work: float | None = None) -> None:
            nonlocal done
            done += steps
            bars.update(task, advance=steps if work is None else work, description=stage, done=done)

        try:
            yield advance
        except BaseException:
            # The one line that says what went wrong should not follow half a bar.
            bars.live.transient = True
            raise
        bars.update(task, completed=whole, description="done", done=max(done, total))


def _lines(total: int, whole: float, what: str, unit: str) -> Advance:
    last = time.monotonic()
    done, worked = 0, 0.0
    recent = deque([(last, 0.0)])
    names = unit if total == 1 else f"{unit}s"
    sys.stderr.write(f"nc-refiner: {what}, 0 of {total} {names}\n")
    sys.stderr.flush()

    def advance(stage: str, steps: int = 1, work: float | None = None) -> None:
        nonlocal done, worked, last
        done += steps
        worked += steps if work is None else work
        now = time.monotonic()
        recent.append((now, worked))
        while len(recent) > REPORTS and recent[1][0] <= now - WINDOW:
            recent.popleft()
        if now - last >= LINE_EVERY:
            last = now
            then, before = recent[0]
            left = (now - then) / max(worked - before, 1e-12) * max(0.0, whole - worked)
            sys.stderr.write(f"nc-refiner: {stage}, {done} of {total} {names}, about {left:.0f} s left\n")
            sys.stderr.flush()

    return advance
