"""The process that holds the models and runs clips. A worker starts it, watches it and ends it.

It is a process of its own so that a clip can take down no more than this: the worker lives on and knows who it was.
Run as `python -m nc_refiner.cascade.cluster.child FD PARENT`.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..stages import Stage
from ..stages.base import Kind
from ..work import Work, finish, words
from .attempts import cause_of
from .job import Job, item_from

__all__ = ["Models", "main"]

PR_SET_PDEATHSIG = 1


class Models:
    """Loaded stages, and what can be asked of them; every answer is plain data."""

    def __init__(self, job: Job, root: Path):
        self.job, self.root = job, root
        self.loaded: dict[Kind, Work] = {}
        self.refused: dict[Kind, str] = {}

    def ready(self) -> tuple[str, Any]:
        """Says that the process is up."""
        return "ok", None

    def load(self, kind: Kind) -> tuple[str, Any]:
        """Load a stage's model once: `ok`, or `load` and why it does not; a refusal is remembered."""
        if kind in self.refused:
            return "load", self.refused[kind]
        if kind not in self.loaded:
            stage: Stage = self.job.stage(kind)
            try:
                stage.load()
            except Exception as error:
                self.refused[kind] = words(error)
                return "load", self.refused[kind]
            self.loaded[kind] = Work(self.job.config, kind, stage, self.root)
        return "ok", None

    def make(self, kind: Kind, item: dict[str, Any], folder: Path, fingerprint: str, before: Any) -> tuple[str, Any]:
        """Run a stage for an item: `ok` and a `Finished`, or how it failed and why."""
        work = self.loaded[kind]
        return _told(lambda: work.make(item_from(item), folder, fingerprint, before, lambda word: None))

    def finish(self, folder: Path, ran: list[Kind], final: Path) -> tuple[str, Any]:
        """Give a finished clip its final name."""
        return _told(lambda: finish(folder, ran, final))


def _told(work: Any) -> tuple[str, Any]:
    try:
        return "ok", work()
    except Exception as error:  # becomes a column of the table, never more
        return cause_of(error), words(error)


def _end_with(parent: int) -> None:
    """Die when the worker does, however it does, and however busy this process is then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Answer orders until the worker closes the line."""
    descriptor, parent = map(int, arguments)
    _end_with(parent)
    # A terminal's Ctrl-C reaches this process too; the worker decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    line: Connection[Any, Any] = Connection(descriptor)
    packed, root = line.recv()
    models = Models(Job.unpacked(packed), root)
    with contextlib.suppress(EOFError):
        while True:
            name, given = line.recv()
            line.send(getattr(models, name)(*given))


if __name__ == "__main__":
    main(sys.argv[1:])
