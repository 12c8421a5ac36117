"""Records on their way to the database, in one local SQLite file that survives the process, and how many there were."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Counts", "Outbox", "Waiting", "waiting_in"]

log = logging.getLogger(__name__)

FILE = "outbox.db"
PAGE = 4096
TABLES = """
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, record TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counts VALUES ('accepted', 0), ('stored', 0), ('refused', 0), ('lost', 0);
"""


@dataclass(frozen=True)
class Counts:
    """Records so far, of all processes that share an outbox: accepted = stored + waiting + refused + lost, always.

    Attributes:
        accepted: taken in. stored: in the database. waiting: not there yet. refused: kept as dead letters, since the
            database will not have them. lost: in an outbox that was damaged, and in no memory any more.
    """

    accepted: int
    stored: int
    waiting: int
    refused: int
    lost: int = 0


@dataclass(frozen=True)
class Waiting:
    """A record in the outbox: its key, its text."""

    key: str
    record: str


class Outbox:
    """The records that wait in `folder`; several processes and threads may share it.

    Args:
        folder: made if missing, readable by its owner alone; on a local disk.
        max_bytes: most that may wait; beyond it `add` raises.

    Raises:
        OSError, sqlite3.Error: the file cannot be made. So may every method; nothing of that call is kept then.
    """

    def __init__(self, folder: Path, max_bytes: int = 2**30):
        self.path, self._max_bytes = folder / FILE, max_bytes
        self._lock = threading.RLock()
        self._values: dict[str, int] = {}
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if not self.damaged(error):
                raise
            self._set_aside(error)
            self._open()
        self._import_segments()

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with the owner's rights alone; SQLite gives the files beside it the same.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self._connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        for line in ("journal_mode=WAL", "synchronous=NORMAL", f"max_page_count={max(16, self._max_bytes // PAGE)}"):
            self._connection.execute(f"PRAGMA {line}")
        self._connection.executescript(TABLES)
        self._read_values()
        self._file = _identity(self.path)

    def _set_aside(self, error: Exception) -> None:
        kept = self.path.with_name(f"{FILE}.damaged-{time.time_ns()}")
        with suppress(FileNotFoundError):
            self.path.rename(kept)
        for ending in ("-wal", "-shm"):
            self.path.with_name(FILE + ending).unlink(missing_ok=True)
        log.error("the outbox %s is damaged (%s); it is kept as %s and a new one begun", self.path, error, kept.name)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._read_values()

    def _read_values(self) -> None:
        self._values = dict(self._connection.execute("SELECT name, value FROM counts"))

    def there(self) -> bool:
        """Whether the file is still the one that was opened."""
        return _identity(self.path) == self._file

    @staticmethod
    def damaged(error: Exception) -> bool:
        """Whether an error says that the file is none of ours, rather than that it cannot be used just now."""
        return type(error) is sqlite3.DatabaseError or (
            isinstance(error, sqlite3.OperationalError) and "no such table" in str(error)
        )

    def rebuild(self, known: dict[str, str]) -> None:
        """Begin a new file where this one was removed, replaced or damaged: with the records `known` (key → text), and
        whatever of the old file the connection can still read."""
        with self._lock:
            found = dict(known)
            with suppress(sqlite3.Error):
                found = dict(self._connection.execute("SELECT key, record FROM waiting ORDER BY number")) | found
            with suppress(sqlite3.Error):
                self._read_values()
            with suppress(sqlite3.Error):
                self._connection.close()
            before = self._values
            waited = self._waited()
            lost = max(0, waited - len(found))
            self._set_aside(RuntimeError("it was removed, replaced or cut short"))
            self._open()
            with self._change() as connection:
                connection.executemany("INSERT INTO waiting (key, record) VALUES (?, ?)", found.items())
                now = {
                    **before,
                    "lost": before["lost"] + lost,
                    "accepted": before["accepted"] - waited + len(found) + lost,
                }
                for name, value in now.items():
                    connection.execute("UPDATE counts SET value = ? WHERE name = ?", (value, name))
            if lost:
                log.error("%d records that waited in the outbox are lost with it", lost)

    def counts(self) -> Counts:
        """How many there are now; as last known where the file cannot be read just now."""
        # One statement, so that it is one moment.
        query = "SELECT name, value FROM counts UNION ALL SELECT 'waiting', count(*) FROM waiting"
        with self._lock:
            try:
                return Counts(**dict(self._connection.execute(query)))
            except sqlite3.Error:
                return Counts(**self._values, waiting=self._waited())

    def _waited(self) -> int:
        known = self._values
        return known["accepted"] - known["stored"] - known["refused"] - known["lost"]

    def waiting_bytes(self) -> int:
        """About how much waits."""
        with self._lock:
            (found,) = self._connection.execute("SELECT coalesce(sum(length(record)), 0) FROM waiting").fetchone()
        return int(found)

    def add(self, records: Sequence[tuple[str, str]]) -> None:
        """Take in records, `(key, text)`."""
        with self._change() as connection:
            connection.executemany("INSERT INTO waiting (key, record) VALUES (?, ?)", records)
            connection.execute("UPDATE counts SET value = value + ? WHERE name = 'accepted'", (len(records),))

    def again(self, records: Mapping[str, tuple[str, str]]) -> None:
        """Let records wait once more, `stored` or `refused` in a database that is gone: key → (text, which)."""
        with self._change() as connection:
            for key, (text, name) in records.items():
                connection.execute("INSERT INTO waiting (key, record) VALUES (?, ?)", (key, text))
                connection.execute("UPDATE counts SET value = value - 1 WHERE name = ?", (name,))

    def oldest(self, most: int) -> list[Waiting]:
        """Up to `most` records that wait, in the order in which they came."""
        query = "SELECT key, record FROM waiting ORDER BY number LIMIT ?"
        with self._lock:
            return [Waiting(*row) for row in self._connection.execute(query, (most,))]

    def done(self, records: Iterable[Waiting], name: str) -> None:
        """These are `stored` or `refused`; each is counted once, whoever says so first."""
        with self._change() as connection:
            # By key: numbers begin anew in a file that is made again.
            gone = sum(connection.execute("DELETE FROM waiting WHERE key = ?", (one.key,)).rowcount for one in records)
            connection.execute("UPDATE counts SET value = value + ? WHERE name = ?", (gone, name))

    def close(self) -> None:
        """Let go of the file; what waits stays for the next process."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    def _import_segments(self) -> None:
        """Take over what versions before the outbox left behind, `*.jsonl` with one row a line."""
        for path in sorted(self.path.parent.glob("*.jsonl")):
            with path.open("rb") as file:
                if not _alone(file.fileno()):
                    continue
                records = []
                for line in file:
                    try:
                        table, row = json.loads(line)
                        records.append((uuid.uuid4().hex, json.dumps([[table, row]])))
                    except (ValueError, TypeError, RecursionError):
                        # The last line of a process that was killed while it wrote, or no row at all.
                        log.error("%s holds a line that is no record; it is passed over: %r", path, line[:200])
                self.add(records)
                path.unlink()


def waiting_in(folder: Path) -> int:
    """How many records wait in the outbox of `folder`, of whatever process; 0 where there is none."""
    try:
        connection = sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True, timeout=1)
    except sqlite3.Error:
        return 0
    try:
        return int(connection.execute("SELECT count(*) FROM waiting").fetchone()[0])
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def _alone(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # rows have unique ids: taking over a living process's file writes nothing twice
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
