"""Append-only files in which rows wait for the database: written first, removed once the database has them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .database import Row

__all__ = ["Journal"]

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 2**20


class _Segment:
    """One file; owned through a lock, so that what a dead process left can be told from a living one's."""

    def __init__(self, path: Path, descriptor: int):
        self.path, self.descriptor = path, descriptor
        self.size = os.fstat(descriptor).st_size
        self.read = 0

    def remove(self) -> None:
        # Removed before the lock is given up: no one else may find it in between.
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks on this system: replaying a living process's file is harmless, ids are unique
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Journal:
    """Rows in a folder of `*.jsonl` segments, one thread appending, one reading.

    Appended rows survive the process; they survive the machine once `sync` was called.

    Args:
        folder: made if missing, readable by its owner alone.
        max_bytes: most that may wait; above it `append` refuses.

    Raises:
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, max_bytes: int = 2**30):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._writing: _Segment | None = None
        self.adopt()
        self._open().remove()

    def _open(self) -> _Segment:
        path = self.folder / f"{uuid.uuid4().hex}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        _lock(descriptor)
        return _Segment(path, descriptor)

    def adopt(self) -> None:
        """Take over the segments of processes that are gone."""
        own = {segment.path for segment in self._segments}
        for path in sorted(self.folder.glob("*.jsonl")):
            if path in own:
                continue
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
            except OSError:
                continue
            if _lock(descriptor):
                with self._lock:
                    self._segments.append(_Segment(path, descriptor))
            else:
                os.close(descriptor)

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the database."""
        with self._lock:
            return sum(segment.size - segment.read for segment in self._segments)

    def append(self, rows: Sequence[Row]) -> bool:
        """Append rows; False when the journal is full.

        Raises:
            OSError: the disk refuses; nothing of this call is kept.
        """
        data = b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows)
        if self.waiting_bytes + len(data) > self.max_bytes:
            return False
        segment = self._writing
        if segment is None or segment.size > SEGMENT_BYTES:
            segment = self._open()
            with self._lock:
                self._segments.append(segment)
                self._writing = segment
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(segment.descriptor, rest) :]
        except OSError:
            os.ftruncate(segment.descriptor, segment.size)
            raise
        with self._lock:
            segment.size += len(data)
        return True

    def peek(self, most: int) -> tuple[list[Row], Any]:
        """Up to `most` rows that wait, oldest first, and what `done` is to be told once they are written."""
        with self._lock:
            segment = next((s for s in self._segments if s.read < s.size), None)
            if segment is None:
                return [], None
            start, size = segment.read, segment.size
        rows: list[Row] = []
        end = start
        # A handle of its own: the position of the shared one moves with every append.
        with open(segment.path, "rb") as file:
            file.seek(start)
            for line in file:
                if len(rows) == most or end + len(line) > size:
                    break
                end += len(line)
                row = _parsed(line, segment.path)
                if row is not None:
                    rows.append(row)
        return rows, (segment, end)

    def done(self, token: Any) -> None:
        """The database has what `peek` returned with `token`."""
        segment, end = token
        with self._lock:
            segment.read = end
            finished = segment.read >= segment.size and segment is not self._writing
            if finished:
                self._segments.remove(segment)
        if finished:
            segment.remove()

    def sync(self) -> None:
        """Make what waits survive a power failure."""
        with self._lock:
            for segment in self._segments:
                os.fsync(segment.descriptor)

    def close(self) -> None:
        """Remove what is done with; what still waits stays for the next process."""
        self.sync()
        with self._lock:
            for segment in self._segments:
                if segment.read >= segment.size:
                    segment.remove()
                else:
                    os.close(segment.descriptor)
            self._segments, self._writing = [], None

    def forget(self) -> None:
        """Let go of a parent process's segments after a fork, without its lock, which may have been held."""
        for segment in self._segments:
            with contextlib.suppress(OSError):
                os.close(segment.descriptor)
        self._segments, self._writing = [], None

    def reject(self, rows: Sequence[Row], reason: str) -> None:
        """Keep rows that the database will never take in `rejected.txt`, for a person."""
        with open(self.folder / "rejected.txt", "a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({"reason": reason, "row": row}) + "\n")


def _parsed(line: bytes, path: Path) -> Row | None:
    try:
        table, row = json.loads(line)
    except ValueError:
        # The last line of a process that was killed while it wrote.
        log.warning("%s holds a line that was cut short; it is passed over", path)
        return None
    return table, row
