"""Being asked to stop: what a person is told then, and the moments in which the question has to wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["UNTOUCHED", "interrupted", "undisturbed", "work_kept"]

UNTOUCHED = "nothing was written, the input is as it was"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_kept: list[str] = []


def work_kept(text: str) -> None:
    """From now on an interruption leaves something behind; `text` says what and how to go on."""
    _kept[:] = [text]


def interrupted() -> str:
    """What became of the work, for the one line that an interrupted command ends with; forgotten by asking."""
    return f"interrupted; {_kept.pop() if _kept else UNTOUCHED}"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold off Ctrl-C and requests to end for the moment in which finished files take their places, so that all do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None is a handler that was not set from Python: only SIGINT's default can be told.
            fallback = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, fallback if handler is None else handler)
