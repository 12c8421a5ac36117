"""Jobs as they lie on disk: a folder each, with the clip, the job's state, the result and its receipt."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..files import AtomicFile, FileError, failures_told, read_text, write_text
from .worker import Done

__all__ = ["FINISHED", "Job", "JobFolder", "State"]

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED = ("done", "failed", "cancelled")
IDS = re.compile(r"[0-9a-f]{32}")
RECORD = "job.json"
RECEIPT = "receipt.json"
INCOMING = ".incoming-"


@dataclass
class Job:
    """One request.

    Attributes:
        id: 32 characters that nobody can guess; also the request's id in the experiment's records.
        unit: who is assigned. arm: the arm that was given when the job came.
        suffix: of the clip's file. settings: the request's own. seed: of every draw.
        state: see `State`. error: why it failed, in a line.
        created, started, finished: seconds since the epoch (UTC); None: not yet.
        attempts: how often a server has begun it.
        result: name of the result's file, once there is one.
        done, total: steps, as far as they are known; not kept on disk.
        cancelled: set to end it at its next step.
    """

    id: str
    unit: str
    arm: str
    suffix: str
    settings: dict[str, Any]
    seed: int
    created: float
    state: State = "queued"
    error: str | None = None
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    result: str | None = None
    done: int = 0
    total: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def record(self) -> dict[str, Any]:
        """What is kept on disk."""
        values = {name: value for name, value in vars(self).items() if name != "cancelled"}
        return {name: value for name, value in values.items() if name not in ("done", "total")}

    @classmethod
    def new(cls, unit: str, arm: str, suffix: str, settings: dict[str, Any], seed: int | None) -> Job:
        """A job that has just come; without a seed it is given one."""
        drawn = secrets.randbits(63) if seed is None else seed
        return cls(secrets.token_hex(16), unit, arm, suffix, settings, drawn, time.time())


class JobFolder:
    """The folder of all jobs. Every file in it appears whole or not at all.

    Args:
        root: made if missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, root: Path):
        self.root = root
        # Other users of the machine have no business with clients' clips.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in root.glob(f"{INCOMING}*"):
            # Uploads that a server did not live to finish; their clients were never told of a job.
            shutil.rmtree(left, ignore_errors=True)

    def incoming(self) -> Path:
        """A fresh folder for a clip that is being uploaded."""
        folder = self.root / f"{INCOMING}{secrets.token_hex(8)}"
        folder.mkdir()
        return folder

    def accept(self, job: Job, incoming: Path, clip: Path) -> None:
        """Make a job of an upload: from now on it is not forgotten."""
        clip.rename(incoming / f"input{job.suffix}")
        self._write(incoming, job)
        incoming.rename(self.root / job.id)

    def save(self, job: Job) -> None:
        """Write the job's state; FileError where the disk takes none."""
        self._write(self.root / job.id, job)

    @staticmethod
    def _write(folder: Path, job: Job) -> None:
        write_text(folder / RECORD, json.dumps(job.record(), indent=1, allow_nan=False) + "\n").commit()

    def clip(self, job: Job) -> Path:
        """The clip's file."""
        return self.root / job.id / f"input{job.suffix}"

    def result(self, job: Job) -> Path:
        """The result's file."""
        return self.root / job.id / (job.result or "result.mp4")

    def receipt(self, job: Job) -> Path:
        """The receipt's file."""
        return self.root / job.id / RECEIPT

    def finish(self, job: Job, done: Done) -> None:
        """Write result and receipt, then that there is one; FileError where the disk takes none."""
        job.result = f"result{done.suffix}"
        with AtomicFile(self.result(job)) as file, failures_told(self.result(job)):
            file.temporary.write_bytes(done.clip)
            file.commit()
        write_text(self.receipt(job), json.dumps(done.receipt, indent=2, allow_nan=False) + "\n").commit()
        job.state, job.finished = "done", time.time()
        self.save(job)
        self.drop_clip(job)

    def drop_clip(self, job: Job) -> None:
        """The clip of a job that is over is not needed any more."""
        with suppress(OSError):
            self.clip(job).unlink(missing_ok=True)

    def remove(self, job: Job) -> None:
        """Forget a job."""
        shutil.rmtree(self.root / job.id, ignore_errors=True)

    def load(self) -> list[Job]:
        """Every job, oldest first; a folder whose record cannot be read is left alone."""
        found = []
        for folder in self.root.iterdir():
            if not IDS.fullmatch(folder.name):
                continue
            with suppress(FileError, ValueError, TypeError):
                found.append(Job(**json.loads(read_text(folder / RECORD, 1 << 20, "a job's record"))))
        return sorted(found, key=lambda job: job.created)
