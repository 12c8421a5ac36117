"""The kill switch: a method, a file, a row in the store; the latest state wins, and a request only reads a set."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ..store.events import SwitchState

__all__ = ["EVERYTHING", "Switch"]

EVERYTHING = ""
"""Stands for the whole experiment where an arm is named."""

log = logging.getLogger(__name__)


class Switch:
    """Which arms are off.

    Args:
        file: while it exists it switches off the arms named in it, one a line; the whole experiment if it is empty.
        read: returns states from elsewhere (the store); of two on one arm the later counts, whoever set it, so
            machines that switch need clocks that agree to within the time they act in.
        poll_seconds: how often both are looked at, in a thread; above 0.
        on_change: called with every state that differs from the one before.
    """

    def __init__(
        self,
        file: Path | None = None,
        read: Callable[[], Iterable[SwitchState]] | None = None,
        poll_seconds: float = 1.0,
        on_change: Callable[[SwitchState], None] | None = None,
    ):
        if not poll_seconds > 0:
            raise ValueError(f"poll_seconds is {poll_seconds}; it must be above 0")
        self._file, self._read, self._poll_seconds = file, read, poll_seconds
        self._on_change = on_change or (lambda state: None)
        self._known: dict[str, SwitchState] = {}
        self._by_file: frozenset[str] = frozenset()
        self._off: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look at the file once, then watch file and store in a daemon thread."""
        if self._file is not None:
            self._look_at(self._file)
        if self._file is not None or self._read is not None:
            self._closed.clear()
            self._thread = threading.Thread(target=self._watch, name="nc-refiner-switch", daemon=True)
            self._thread.start()

    def is_off(self, arm: str) -> bool:
        """Whether `arm`, or the whole experiment, is off."""
        off = self._off
        return bool(off) and (arm in off or EVERYTHING in off)

    def reason(self, arm: str) -> str:
        """Why `arm` is off."""
        for name in (EVERYTHING, arm):
            if name in self._by_file:
                return f"switched off by {self._file}"
            state = self._known.get(name)
            if state is not None and not state.on:
                return state.reason
        return ""

    def update(self, state: SwitchState) -> bool:
        """Take in a state; False if a later one is known."""
        with self._lock:
            known = self._known.get(state.arm)
            if known is not None and known.at >= state.at:
                return False
            self._known[state.arm] = state
            self._settle()
        if known is None or known.on != state.on:
            self._on_change(state)
        return True

    def set(self, arm: str, on: bool, reason: str) -> SwitchState:
        """Switch `arm` now, later than every state that is known."""
        known = self._known.get(arm)
        # Later than what another machine's fast clock may have said.
        state = SwitchState(arm, on, reason, max(time.time(), 0.0 if known is None else known.at + 1e-3))
        self.update(state)
        return state

    def _settle(self) -> None:
        self._off = self._by_file | {arm for arm, state in self._known.items() if not state.on}

    def _look_at(self, file: Path) -> None:
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            arms = frozenset[str]()
        except OSError:
            # There but unreadable: someone wants something off, and what cannot be told.
            arms = frozenset({EVERYTHING})
        else:
            arms = frozenset(line.strip() for line in lines if line.strip()) or frozenset({EVERYTHING})
        if arms == self._by_file:
            return
        with self._lock:
            before, self._by_file = self._by_file, arms
            self._settle()
        for arm in before ^ arms:
            self._on_change(SwitchState(arm, arm in before, f"file {file}", time.time()))

    def poll(self) -> None:
        """Look at file and store now; what cannot be read leaves the state as it is."""
        if self._file is not None:
            self._look_at(self._file)
        if self._read is not None:
            for state in self._read():
                self.update(state)

    def _watch(self) -> None:
        failing = False
        while True:
            try:
                self.poll()
                failing = False
            except Exception as error:  # the watcher outlives any outage of the store
                if not failing:
                    log.warning("the kill switch cannot be read, its last state stays: %s", error)
                failing = True
            if self._closed.wait(self._poll_seconds):
                return

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
