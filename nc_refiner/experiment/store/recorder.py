"""The recorder: from a request to the journal to the database, each in a thread of its own; a request never waits."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .database import Row, Store, journal_folder
from .journal import Journal

__all__ = ["Record", "Recorder"]

log = logging.getLogger(__name__)

BATCH = 500
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0


class Record(Protocol):
    """Anything that can say which rows it is."""

    def rows(self) -> list[Row]:
        """The rows, each with its unique `id`."""


class Recorder:
    """Writes records off the request path.

    `put` appends to a queue in memory. One thread moves it to the journal on disk, from where a second one writes it to
    the database in batches and removes it. An outage of the database therefore only lets the journal grow; a process
    that is killed leaves it to the next one. Every row has a unique id that the database takes once, so that nothing is
    written twice, however often it is tried.

    Args:
        store: the database; connected to, and brought up to date, by the second thread.
        journal: folder of the journal; default: `FILE.pending` beside an SQLite file, else in the user's state folder
            (`XDG_STATE_HOME`). On local disk; several processes may share it.
        capacity: records that may wait in memory, ≥ 1. Beyond it, or beyond `max_bytes` on disk, records are dropped,
            counted in `dropped`, and told in the log.
        max_bytes: most that may wait on disk.
        flush_seconds: how long a record may wait before it is moved on.
        on_state: called with `database up` (bool) when that changes, from the second thread.

    Raises:
        OSError: the journal's folder cannot be written.
    """

    def __init__(
        self,
        store: Store,
        journal: Path | None = None,
        capacity: int = 100_000,
        max_bytes: int = 2**30,
        flush_seconds: float = 0.2,
        on_state: Callable[[bool], None] | None = None,
    ):
        if capacity < 1:
            raise ValueError(f"the queue's capacity is {capacity}; it must be at least 1")
        self.store = store
        self._folder, self._max_bytes = journal or journal_folder(store.url), max_bytes
        self._capacity, self._flush_seconds = capacity, flush_seconds
        self._on_state = on_state or (lambda up: None)
        self.dropped = self.written = self.rejected = 0
        self.database_up = True
        self._begin()
        stop = weakref.WeakMethod(self.close)
        self._at_exit = lambda: (method := stop()) is not None and method()
        atexit.register(self._at_exit)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._queue: deque[Record] = deque()
        self._journal = Journal(self._folder, self._max_bytes)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._drained = threading.Event()
        self._journalling = False
        self._wake, self._more = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"nc-refiner-{name}", daemon=True)
            for target, name in ((self._to_journal, "journal"), (self._to_database, "database"))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, record: Record) -> bool:
        """Queue a record, in a few µs; False if it had to be dropped. Never raises, never waits."""
        if self._pid != os.getpid() and not self._after_fork():
            return False
        if len(self._queue) >= self._capacity or self._closing.is_set():
            self._drop(1, "the queue is full" if not self._closing.is_set() else "the recorder is closed")
            return False
        self._queue.append(record)
        return True

    def _after_fork(self) -> bool:
        # The parent's threads, and its connections, did not come along.
        try:
            self.store.engine.dispose(close=False)
            self._journal.forget()
            self._begin()
        except OSError as error:
            self._drop(1, f"the journal cannot be opened after a fork: {error}")
            return False
        return True

    def _drop(self, count: int, reason: str) -> None:
        if self.dropped == 0:
            log.error("records are dropped: %s", reason)
        self.dropped += count

    @property
    def waiting(self) -> int:
        """Records in memory; those on disk are `waiting_bytes`."""
        return len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that the database does not have yet."""
        return self._journal.waiting_bytes

    def _to_journal(self) -> None:
        held: list[Row] = []
        while True:
            closing = self._closing.is_set()
            self._journalling = True
            while self._queue and len(held) < BATCH:
                try:
                    held += self._queue.popleft().rows()
                except Exception:  # one record that cannot be written out must not stop the others
                    log.exception("a record cannot be written")
                    self.rejected += 1
            if held:
                try:
                    if not self._journal.append(held):
                        self._drop(len(held), "the journal on disk is full")
                    held = []
                    self._more.set()
                except OSError as error:
                    log.warning("the journal cannot be written, trying again: %s", error)
                    if closing and time.monotonic() > self._deadline:
                        self._drop(len(held), f"the journal cannot be written: {error}")
                        held = []
                    time.sleep(FIRST_WAIT)
            self._journalling = bool(held)
            if not self._queue and not held:
                if closing:
                    self._drained.set()
                    self._more.set()
                    return
                self._wake.wait(self._flush_seconds)
                self._wake.clear()

    def _to_database(self) -> None:
        wait = FIRST_WAIT
        while True:
            rows, token = self._journal.peek(BATCH)
            if token is None and self.store.migrated:
                if self._drained.is_set():
                    return
                self._more.wait(self._flush_seconds)
                self._more.clear()
                continue
            try:
                self.store.migrate()
                if rows:
                    self._write(rows)
            except Exception as error:  # whatever ails the database, the rows wait on disk
                if self.database_up:
                    log.warning("the database does not take records, they wait on disk: %s", _one_line(error))
                self._state(False)
                if self._drained.is_set() and time.monotonic() + wait > self._deadline:
                    return
                self._closing.wait(wait) if not self._closing.is_set() else time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT if not self._closing.is_set() else 0.5)
                continue
            wait = FIRST_WAIT
            if token is not None:
                self._journal.done(token)
            self._state(True)

    def _write(self, rows: list[Row]) -> None:
        from sqlalchemy.exc import DataError, IntegrityError, StatementError

        try:
            self.store.write(rows)
            self.written += len(rows)
            return
        except (DataError, IntegrityError, KeyError) as error:
            log.warning("a batch holds a row the database refuses, writing one by one: %s", _one_line(error))
        except StatementError as error:
            if type(error) is not StatementError:
                raise
        for row in rows:
            try:
                self.store.write([row])
                self.written += 1
            except (DataError, IntegrityError, KeyError) as error:
                self._reject(row, error)
            except StatementError as error:
                if type(error) is not StatementError:
                    raise
                self._reject(row, error)

    def _reject(self, row: Row, error: Exception) -> None:
        self.rejected += 1
        self._journal.reject([row], _one_line(error))

    def _state(self, up: bool) -> None:
        if up != self.database_up:
            self.database_up = up
            if up:
                log.info("the database takes records again")
            self._on_state(up)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until the database has everything put so far; False when `timeout` seconds did not suffice."""
        ends = time.monotonic() + timeout
        while self._queue or self._journalling or self._journal.waiting_bytes:
            if time.monotonic() > ends:
                return False
            self._wake.set()
            time.sleep(0.005)
        return True

    def close(self, timeout: float = 30.0) -> bool:
        """Write out everything and stop.

        Returns:
            True: the database has it all. False: it did not answer within `timeout` seconds, and the rest is safe on
            disk until the next recorder with this journal starts.
        """
        if self._pid != os.getpid() or self._closing.is_set():
            return True
        atexit.unregister(self._at_exit)
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._wake.set()
        self._threads[0].join()
        self._threads[1].join(max(0.0, timeout) + 10)
        clean = not self._journal.waiting_bytes
        if self._threads[1].is_alive():
            # Stuck inside the driver; the descriptors stay its own until the process ends.
            self._journal.sync()
            return False
        self._journal.close()
        if not clean:
            log.warning("the database did not take all records; the rest waits in %s", self._folder)
        return clean


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]
