"""How often an item's stage was tried, and how each try ended: written to the item's own folder before the try.

What a clip does to its worker is then known whoever looks next: the worker's supervisor, another worker, another run.
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...files import DiskFull
from ..records import write_json

__all__ = ["FILE", "Attempts", "Cause", "Try", "Verdict", "cause_of"]

FILE = "attempts.json"
Cause = Literal["failed", "timeout", "killed", "lost", "no space", "load"]
"""How a try ended that made nothing: `failed` an exception; `timeout` it ran too long; `killed` its process died;
`lost` the worker around it was gone, node or all; `no space` on the worker's disk; `load` a model did not load."""
CHARGED: tuple[Cause, ...] = ("timeout", "killed")
"""The clip's own doing, most likely, and worth another try."""
NOT_ITS_FAULT = ("no space", "load", "lost")
"""Another run tries again without being asked to."""
LOST_PER_TRY = 5
"""A worker that is gone says nothing of the clip; so many of them for each try that is allowed do."""


@dataclass
class Try:
    """One try; `how` is None while it runs."""

    run: str
    worker: str
    how: Literal["done"] | Cause | None = None
    error: str | None = None
    seconds: float | None = None


@dataclass
class Verdict:
    """Why there is no further try."""

    cause: Cause
    error: str


@dataclass
class Attempts:
    """The tries of one stage of one item, for one fingerprint: a stage whose inputs changed starts anew.

    Args:
        folder: the item's.
        stage: its kind.
        fingerprint: of what would be made.
        run: identity of the run that asks.
        most: tries that may end in a death or a timeout.
        again: forget what failed in earlier runs.
    """

    folder: Path
    stage: str
    fingerprint: str
    run: str
    most: int = 2
    again: bool = False
    tries: list[Try] = field(default_factory=list)

    def __post_init__(self) -> None:
        entry = read(self.folder).get(self.stage, {})
        if isinstance(entry, dict) and entry.get("fingerprint") == self.fingerprint:
            self.tries = [Try(**one) for one in entry.get("tries", [])]
        if self.again:
            self.tries = [one for one in self.tries if one.run == self.run]
        # A run that is over took its workers along: what was left open then is nobody's fault.
        self.tries = [
            one
            for one in self.tries
            if one.run == self.run or (one.how not in (None, "done") and one.how not in NOT_ITS_FAULT)
        ]
        for one in self.tries:
            if one.how is None:
                one.how, one.error = "lost", f"the worker {one.worker} was gone"

    def verdict(self) -> Verdict | None:
        """Why the item is set aside; None where it may be tried."""
        for one in self.tries:
            if one.how in ("failed", "no space", "load"):
                return Verdict(one.how, one.error or one.how)
        charged = [one for one in self.tries if one.how in CHARGED]
        if len(charged) >= self.most:
            last = charged[-1]
            times = f" ({len(charged)} times)" if len(charged) > 1 else ""
            return Verdict("timeout" if last.how == "timeout" else "killed", f"{last.error}{times}")
        lost = sum(one.how == "lost" for one in self.tries)
        if lost >= LOST_PER_TRY * self.most:
            return Verdict("lost", f"its worker or the machine around it was lost {lost} times")
        return None

    def begin(self, worker: str) -> None:
        """Write that a try begins; only then may it."""
        self.tries.append(Try(self.run, worker))
        self._write()

    def end(self, how: Literal["done"] | Cause, error: str | None = None, seconds: float | None = None) -> None:
        """Write how the try ended."""
        last = self.tries[-1]
        last.how, last.error, last.seconds = how, error, None if seconds is None else round(seconds, 4)
        self._write()

    def _write(self) -> None:
        every = read(self.folder)
        every[self.stage] = {"fingerprint": self.fingerprint, "tries": [asdict(one) for one in self.tries]}
        write_json(self.folder / FILE, every)


def read(folder: Path) -> dict[str, Any]:
    """Stage → what is known of its tries; empty where nothing is, or nothing that can be read."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def cause_of(error: Exception) -> Cause:
    """`no space` for a full disk, whoever says so; `failed` for any other exception."""
    full = isinstance(error, DiskFull) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return "no space" if full else "failed"
