"""The recorder: from a request to the outbox to the database, off the request path, and one place that counts."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path

from .database import Row, Store
from .encoding import Record, decoded, encoded
from .health import StoreReplacedError, is_temporary
from .outbox import Counts, Outbox, Waiting
from .supervisor import Supervised
from .urls import outbox_folder

__all__ = ["Record", "Recorder"]

log = logging.getLogger(__name__)

BATCH = 500
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
CHECK_SECONDS = 1.0
"""How often an idle recorder looks whether its database is still there."""
REMEMBERED = 10_000
"""Records of this process kept in memory after they were stored, for a database that is removed under it."""


class Recorder:
    """Writes records off the request path.

    `put` checks a record and takes it in, in memory. One thread moves it to the outbox, a local SQLite file, from where
    a second one writes it to the database in batches. An outage of the database only lets the outbox grow; a process
    that is killed leaves it to the next one. Every row has a unique id that the database takes once, so that nothing is
    written twice, however often it is tried. What the database refuses for ever is kept as a dead letter.

    Args:
        store: the database; connected to, and brought up to date, by the second thread.
        outbox: folder of the outbox; default: `FILE.pending` beside an SQLite file, else in the user's state folder
            (`XDG_STATE_HOME`). On local disk; several processes may share it.
        capacity: records that may wait in memory, ≥ 1, while the outbox takes none. Beyond it they are not taken,
            counted in `dropped`, and told in the log.
        max_bytes: most that may wait on disk.
        flush_seconds: how long a record may stay in memory alone; what `kill -9` takes with it.
        durable: commit each record to the outbox before `put` returns: `kill -9` then takes nothing.
        on_state: called with `database up` (bool) when that changes, from the second thread.

    Raises:
        OSError, sqlite3.Error: the outbox cannot be made.
    """

    def __init__(
        self,
        store: Store,
        outbox: Path | None = None,
        capacity: int = 100_000,
        max_bytes: int = 2**30,
        flush_seconds: float = 0.2,
        durable: bool = False,
        on_state: Callable[[bool], None] | None = None,
    ):
        if capacity < 1:
            raise ValueError(f"the queue's capacity is {capacity}; it must be at least 1")
        self.store = store
        self.folder, self._max_bytes = outbox or outbox_folder(store.url), max_bytes
        self._capacity, self._flush_seconds, self._durable = capacity, flush_seconds, durable
        self._on_state = on_state or (lambda up: None)
        self.dropped = 0
        self.database_up = True
        self._begin()
        stop = weakref.WeakMethod(self.close)
        self._at_exit = lambda: (method := stop()) is not None and method()
        atexit.register(self._at_exit)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._outbox = Outbox(self.folder, self._max_bytes)
        self._fresh: deque[tuple[str, str]] = deque()
        # Records of this process, so that a file that is removed under it can be written again.
        self._unstored: OrderedDict[str, str] = OrderedDict()
        self._settled: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._moving = threading.RLock()
        self._closing, self._deadline = threading.Event(), float("inf")
        self._outbox_up, self._refused = True, False
        self._gone: StoreReplacedError | None = None
        self._last: Counts | None = None
        self._wake, self._more, self._drained = threading.Event(), threading.Event(), threading.Event()
        self._hurry = threading.Event()
        self._threads = [
            Supervised("nc-refiner-outbox", self._to_outbox),
            Supervised("nc-refiner-database", self._to_database),
        ]

    def put(self, record: Record) -> bool:
        """Take in a record; False if there is no room for it. Waits for nothing, or with `durable` for one commit.

        Raises:
            ValueError: a value that its column can never hold; the record is not taken in.
        """
        text = encoded(record)
        if self._pid != os.getpid() and not self._after_fork():
            return False
        if self._closing.is_set() or len(self._fresh) >= self._capacity:
            self._drop(1, "the recorder is closed" if self._closing.is_set() else "too many wait in memory")
            return False
        self._fresh.append((uuid.uuid4().hex, text))
        if self._durable:
            self._move()
        return True

    def _after_fork(self) -> bool:
        # The parent's threads, its connections and what it holds in memory did not come along, or are the parent's.
        _ORPHANS.append(self._outbox)
        try:
            self.store.forked()
            self._begin()
        except (OSError, sqlite3.Error) as error:
            self._drop(1, f"the outbox cannot be opened after a fork: {error}")
            return False
        return True

    def _drop(self, count: int, reason: str) -> None:
        if self.dropped == 0:
            log.error("records are not taken: %s", reason)
        self.dropped += count

    # Counting

    def counts(self) -> Counts:
        """Accepted, stored, waiting, refused so far, of all processes with this outbox; once closed, as it was then."""
        if self._last is not None:
            return self._last
        with self._moving:
            found, fresh = self._outbox.counts(), len(self._fresh)
        return Counts(found.accepted + fresh, found.stored, found.waiting + fresh, found.refused, found.lost)

    @property
    def waiting(self) -> int:
        """Records that are not in the database yet."""
        return self.counts().waiting

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that the database does not have yet."""
        return self._outbox.waiting_bytes() if self._last is None else 0

    @property
    def restarts(self) -> int:
        """How often one of the threads had to be started again."""
        return sum(thread.restarts for thread in self._threads)

    # Memory to outbox

    def _move(self) -> bool:
        """Commit what is in memory alone; whether that worked."""
        with self._moving:
            batch = [self._fresh[i] for i in range(min(len(self._fresh), 10 * BATCH))]
            try:
                if not self._outbox.there():
                    self._outbox.rebuild(dict(self._unstored))
                if batch:
                    self._outbox.add(batch)
            except (OSError, sqlite3.Error) as error:
                if self._repair(error):
                    return self._move()
                if self._outbox_up:
                    log.error("the outbox in %s takes no records, they wait in memory: %s", self.folder, error)
                self._outbox_up = False
                return False
            if not self._outbox_up:
                log.warning("the outbox in %s takes records again", self.folder)
            self._outbox_up = True
            for key, text in batch:
                self._fresh.popleft()
                self._unstored[key] = text
            while len(self._unstored) > self._capacity:
                self._unstored.popitem(last=False)
        if batch:
            self._more.set()
        return True

    def _repair(self, error: Exception) -> bool:
        """Begin a new outbox where `error` says that the file is damaged; whether that was done."""
        if not self._outbox.damaged(error):
            return False
        with self._moving:
            self._outbox.rebuild(dict(self._unstored))
        return True

    def _to_outbox(self) -> None:
        while True:
            closing = self._closing.is_set()
            done = self._move() and not self._fresh
            if closing and (done or time.monotonic() > self._deadline):
                self._drained.set()
                self._more.set()
                return
            if not self._fresh or not done:
                self._wake.wait(self._flush_seconds if not closing else 0.02)
                self._wake.clear()

    # Outbox to database

    def _to_database(self) -> None:
        wait, check = FIRST_WAIT, 0.0
        while True:
            try:
                if self._gone is not None:
                    self._write_again(self._gone)
                self.store.migrate()
                # Asked first: what is moved to the outbox in between is still to be written.
                drained = self._drained.is_set()
                batch = self._outbox.oldest(BATCH)
                if batch:
                    self._deliver(batch)
                else:
                    if time.monotonic() >= check:
                        self.store.check()
                        check = time.monotonic() + CHECK_SECONDS
                    if drained:
                        return
                    self._more.wait(self._flush_seconds)
                    self._more.clear()
            except StoreReplacedError as error:
                self._gone = error
                continue
            except Exception as error:  # whatever ails the database or the outbox, the records wait
                if self._repair(error):
                    continue
                if self.database_up:
                    log.warning("the database does not take records, they wait on disk: %s", _one_line(error))
                self._state(False)
                if self._drained.is_set() and time.monotonic() + wait > self._deadline:
                    return
                self._hurry.wait(wait if not self._closing.is_set() else min(wait, 0.1))
                self._hurry.clear()
                wait = min(2 * wait, LONGEST_WAIT if not self._closing.is_set() else 0.5)
                continue
            wait = FIRST_WAIT
            self._state(True)

    def _deliver(self, batch: list[Waiting]) -> None:
        rows = {}
        for record in batch:
            try:
                rows[record] = decoded(record.record)
            except ValueError as error:
                self._refuse(record, error)
        try:
            self.store.write([row for found in rows.values() for row in found])
        except Exception as error:
            if is_temporary(error):
                raise
            log.warning("the database refuses a batch, writing one by one: %s", _one_line(error))
            for record, found in rows.items():
                self._deliver_one(record, found)
        else:
            self._settle(list(rows), "stored")

    def _deliver_one(self, record: Waiting, rows: list[Row]) -> None:
        try:
            self.store.write(rows)
        except Exception as error:
            if is_temporary(error):
                raise
            self._refuse(record, error)
        else:
            self._settle([record], "stored")

    def _settle(self, records: list[Waiting], name: str) -> None:
        with self._moving:
            self._outbox.done(records, name)
            for record in records:
                text = self._unstored.pop(record.key, None)
                if text is not None:
                    self._settled[record.key] = text, name
            while len(self._settled) > REMEMBERED:
                self._settled.popitem(last=False)

    def _refuse(self, record: Waiting, error: Exception) -> None:
        try:
            experiment = str(json.loads(record.record)[0][1].get("experiment", ""))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            experiment = ""
        self.store.refuse(record.key, experiment, _one_line(error), record.record)
        self._settle([record], "refused")
        if not self._refused:
            log.error("%s refuses a record, it is kept as a dead letter: %s", self.store.name, _one_line(error))
        self._refused = True

    def _write_again(self, error: StoreReplacedError) -> None:
        """Go on in the database that is there now, beginning with what this process had stored in the other."""
        self.store.adopt()
        with self._moving:
            again = dict(self._settled)
            self._outbox.again(again)
            self._settled.clear()
            self._unstored.update((key, text) for key, (text, _) in again.items())
        self._gone = None
        log.error("%s; the last %d records of this process are written again to the one there now", error, len(again))

    def _state(self, up: bool) -> None:
        if up != self.database_up:
            self.database_up = up
            if up:
                log.info("the database takes records again")
            self._on_state(up)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until nothing waits any more; False when `timeout` seconds did not suffice."""
        ends, hurry = time.monotonic() + timeout, 0.0
        while True:
            if time.monotonic() >= hurry:
                # Someone waits: a database that is back need not be found out by chance.
                self._hurry.set()
                hurry = time.monotonic() + 0.5
            try:
                if self.waiting == 0 and self._gone is None:
                    self.store.check()
                    return True
            except StoreReplacedError as error:
                self._gone = error
            except Exception as error:  # the thread that writes says what ails the database
                log.debug("waiting for the database: %s", _one_line(error))
            if time.monotonic() > ends:
                return False
            self._wake.set()
            time.sleep(0.005)

    def close(self, timeout: float = 30.0) -> bool:
        """Write out everything and stop.

        Returns:
            True: the database has it all. False: it did not answer within `timeout` seconds, and the rest is safe on
            disk until the next recorder with this outbox starts.
        """
        if self._pid != os.getpid() or self._closing.is_set():
            return True
        atexit.unregister(self._at_exit)
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._wake.set()
        self._hurry.set()
        ended = [thread.join(self._deadline + 0.5 - time.monotonic()) for thread in self._threads]
        # Once more from here, for a thread that is stuck.
        self._move()
        if self._fresh:
            log.error("%d records could not be written to the outbox and end with this process", len(self._fresh))
        self._last = self.counts()
        if self._last.waiting:
            log.warning("the database did not take all records; %d wait in %s", self._last.waiting, self.folder)
        if all(ended):
            # A thread that is stuck inside the driver may still come back to it.
            self._outbox.close()
            self.store.close()
        return not self._last.waiting


_ORPHANS: list[Outbox] = []
"""Outboxes of parent processes: a child must not close what it did not open."""


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]
