"""The store: one engine, rows in, observations and exposures out."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..statistics.observations import Exposure, Observation
from .events import SwitchState

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

__all__ = ["DeadLetter", "Row", "Store", "StoreReplacedError", "is_temporary", "open_store", "outbox_folder"]

log = logging.getLogger(__name__)

Row = tuple[str, dict[str, Any]]
"""A table's name and one row of it, with its `id`."""

_MIGRATING = threading.Lock()
INSTALL = "the experiment store needs SQLAlchemy and Alembic; pip install 'nc_refiner[experiment]'"
MIGRATIONS = Path(__file__).with_name("migrations")
# Any number will do as long as no other program on the server picks it.
MIGRATION_LOCK = 0x6E635F7265666E65


class StoreReplacedError(RuntimeError):
    """The database is no longer the one that was opened: it was removed, replaced or emptied while it was in use."""


@dataclass(frozen=True)
class DeadLetter:
    """A record that the database refused: JSON of its rows, why, and when, in seconds since the epoch (UTC)."""

    id: str
    experiment: str
    reason: str
    record: str
    at: float


class Store:
    """A database of experiments. Making one connects to nothing; every method may raise SQLAlchemy's `DBAPIError`.

    Args:
        url: `sqlite:///experiments.db`, `postgresql://user@host/name`, or the path of an SQLite file.

    Raises:
        ValueError: not a URL of a database that is supported. ImportError: SQLAlchemy or the driver is not installed.
    """

    def __init__(self, url: str | os.PathLike[str]):
        self.url = _parsed(os.fspath(url))
        self.engine = _engine(self.url)
        self.migrated = False
        self._identity: str | None = None
        self._file: _File | None = None
        self._checking = threading.RLock()

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self.url.render_as_string(hide_password=True)

    def migrate(self) -> None:
        """Bring the schema up to date; safe when several processes do it at once.

        Raises:
            ValueError: the database was written by a newer version.
        """
        if self.migrated:
            return
        from alembic import command
        from alembic.config import Config
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        # Alembic's context is one for the whole process.
        with _MIGRATING, self.engine.connect() as connection:
            _lock(connection)
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise ValueError(
                    f"{self.name}: {error}; it was made by a newer nc_refiner, upgrade this one"
                ) from error
            connection.commit()
        self._identity = self._read_identity(make=True)
        self._file = _File.at(sqlite_file(self.url))
        self.migrated = True

    def _read_identity(self, make: bool = False) -> str | None:
        from sqlalchemy import select
        from sqlalchemy.exc import DatabaseError

        from .schema import identity

        row = {"id": "database", "value": uuid.uuid4().hex}
        try:
            with self.engine.begin() as connection:
                if make:
                    connection.execute(_insert(self.url, identity).on_conflict_do_nothing(), [row])
                return connection.execute(select(identity.c.value)).scalar()
        except DatabaseError as error:
            if make or (is_temporary(error) and not _no_table(error)):
                raise
            return None

    def check(self) -> None:
        """Raise `StoreReplacedError` unless the database is the one that was opened, wherever its file lies now."""
        if not self.migrated:
            return
        if sqlite_file(self.url) is not None:
            self._check_file()
        elif self._read_identity() != self._identity:
            raise StoreReplacedError(f"{self.name} was replaced or emptied while it was in use")

    def _check_file(self) -> None:
        with self._checking:
            self._compare_file()

    def _compare_file(self) -> None:
        file = sqlite_file(self.url)
        if file is None or self._file is None:
            return
        now = _File.at(file)
        if now.same(self._file):
            self._file = now
            return
        # Connections go on to see the file that is gone, and its write-ahead log would be taken for the new one's.
        self.engine.dispose()
        if now.log is not None and now.log == self._file.log and now.inode != self._file.inode:
            for ending in ("-wal", "-shm"):
                file.with_name(file.name + ending).unlink(missing_ok=True)
        if now.inode is None:
            raise StoreReplacedError(f"{self.name} was removed while it was in use")
        if not _readable(file) or self._read_identity() != self._identity:
            raise StoreReplacedError(f"{self.name} was replaced or emptied while it was in use")
        self._file = _File.at(file)

    def adopt(self) -> None:
        """Take what is at the URL now for the database, after `StoreReplacedError`; made anew where there is none."""
        self.engine.dispose()
        self.migrated, self._identity, self._file = False, None, None
        file = sqlite_file(self.url)
        if file is not None and file.exists() and not _readable(file):
            kept = file.with_name(f"{file.name}.damaged-{time.time_ns()}")
            file.rename(kept)
            for ending in ("-wal", "-shm"):
                file.with_name(file.name + ending).unlink(missing_ok=True)
            log.error("%s is damaged; it is kept as %s and a new one begun", self.name, kept.name)
        self.migrate()

    def forked(self) -> None:
        """Let go of the parent's connections in a forked process, without closing what is the parent's."""
        global _MIGRATING
        self.engine.dispose(close=False)
        self._checking, _MIGRATING = threading.RLock(), threading.Lock()

    def write(self, rows: Iterable[Row], replace: bool = False) -> None:
        """Insert rows in one transaction; those whose `id` is there already are passed over, or replaced.

        Raises:
            StoreReplacedError: the database was removed or replaced since it was opened; nothing counts as written.
        """
        from sqlalchemy import select
        from sqlalchemy.exc import DatabaseError

        from .schema import TABLES, identity

        by_table: dict[str, list[dict[str, Any]]] = {}
        for table, row in rows:
            by_table.setdefault(table, []).append(row)
        self._check_file()
        try:
            with self.engine.begin() as connection:
                if self._identity is not None:
                    found = connection.execute(select(identity.c.value)).scalar()
                    if found != self._identity:
                        raise StoreReplacedError(f"{self.name} was replaced while it was in use")
                for table, values in by_table.items():
                    insert = _insert(self.url, TABLES[table])
                    if replace:
                        new = {column: insert.excluded[column] for column in values[0] if column != "id"}
                        statement = insert.on_conflict_do_update(index_elements=["id"], set_=new)
                    else:
                        statement = insert.on_conflict_do_nothing()
                    connection.execute(statement, values)
        except DatabaseError as error:
            if self._identity is not None and (_no_table(error) or _damaged(error)):
                raise StoreReplacedError(f"{self.name} was emptied or damaged while it was in use") from error
            raise
        # What was written to a file that is gone by now is nowhere.
        self._check_file()

    def refuse(self, key: str, experiment: str, reason: str, record: str) -> None:
        """Keep `record` as a dead letter."""
        row = {"id": key, "experiment": experiment, "reason": reason, "record": record, "at": time.time()}
        self.write([("dead_letters", row)])

    def dead_letters(self, experiment: str | None = None) -> list[DeadLetter]:
        """Records that the database refused, of one experiment or of all, oldest first."""
        from sqlalchemy import select

        from .schema import dead_letters as d

        query = select(d.c.id, d.c.experiment, d.c.reason, d.c.record, d.c.at).order_by(d.c.at, d.c.id)
        if experiment is not None:
            query = query.where(d.c.experiment == experiment)
        with self.engine.connect() as connection:
            return [DeadLetter(*row) for row in connection.execute(query)]

    def forget_letter(self, letter: DeadLetter) -> None:
        """Remove a dead letter, once what it holds is stored."""
        from .schema import dead_letters

        with self.engine.begin() as connection:
            connection.execute(dead_letters.delete().where(dead_letters.c.id == letter.id))

    def observations(self, experiment: str) -> list[Observation]:
        """Everything measured in `experiment`, oldest first."""
        from sqlalchemy import select

        from .schema import measurements as m

        query = (
            select(m.c.unit, m.c.arm, m.c.metric, m.c.value, m.c.pair, m.c.seed, m.c.at)
            .where(m.c.experiment == experiment)
            .order_by(m.c.at, m.c.id)
        )
        with self.engine.connect() as connection:
            return [Observation(experiment, *row) for row in connection.execute(query)]

    def exposures(self, experiment: str) -> list[Exposure]:
        """Every unit of `experiment` with each arm it was given, once, oldest first."""
        from sqlalchemy import select

        from .schema import exposures as e

        query = (
            select(e.c.unit, e.c.arm, e.c.at, e.c.weight).where(e.c.experiment == experiment).order_by(e.c.at, e.c.id)
        )
        with self.engine.connect() as connection:
            return [Exposure(experiment, *row) for row in connection.execute(query)]

    def experiments(self) -> list[str]:
        """Names of the experiments that something is recorded of, sorted."""
        from sqlalchemy import select, union

        from .schema import exposures, measurements, requests

        query = union(*(select(table.c.experiment) for table in (requests, exposures, measurements)))
        with self.engine.connect() as connection:
            return sorted(connection.execute(query).scalars())

    def switches(self, experiment: str) -> list[SwitchState]:
        """Every state the arms of `experiment` were switched to, oldest first."""
        from sqlalchemy import select

        from .schema import switches as s

        query = (
            select(s.c.arm, s.c.is_on, s.c.reason, s.c.at).where(s.c.experiment == experiment).order_by(s.c.at, s.c.id)
        )
        with self.engine.connect() as connection:
            return [SwitchState(*row) for row in connection.execute(query)]

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def open_store(url: str | os.PathLike[str], *, create: bool = True) -> Store:
    """The store at `url`, its schema up to date.

    Args:
        url: as for `Store`.
        create: whether a missing SQLite file is made.

    Raises:
        FileNotFoundError: no such SQLite file. ValueError: not a database of ours, or the server cannot be reached.
        ImportError: SQLAlchemy or the driver is not installed.
    """
    store = Store(url)
    file = sqlite_file(store.url)
    if file is not None and not create and not file.exists():
        raise FileNotFoundError(f"there is no database at {file}; give the path or URL the experiment records to")
    from sqlalchemy.exc import DBAPIError

    try:
        store.migrate()
    except DBAPIError as error:
        store.close()
        reason = " ".join(str(error.orig).split())
        raise ValueError(f"{store.name} cannot be opened: {reason}; check the URL and that the server runs") from error
    return store


def sqlite_file(url: URL) -> Path | None:
    """The file behind an SQLite URL; None for a server, or a database in memory."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


@dataclass(frozen=True)
class _File:
    """A database file and its write-ahead log as the system knows them; all None where there is none."""

    inode: tuple[int, int] | None
    size: int
    log: tuple[int, int] | None

    @classmethod
    def at(cls, path: Path | None) -> _File:
        def stat(name: Path) -> tuple[tuple[int, int] | None, int]:
            try:
                found = os.stat(name)
            except OSError:
                return None, 0
            return (found.st_dev, found.st_ino), found.st_size

        if path is None:
            return cls(None, 0, None)
        inode, size = stat(path)
        return cls(inode, size, stat(path.with_name(f"{path.name}-wal"))[0])

    def same(self, before: _File) -> bool:
        """Whether it is the file of `before`, and not cut short since."""
        return self.inode is not None and self.inode == before.inode and self.size >= before.size


def _damaged(error: Exception) -> bool:
    """Whether SQLite says that the file is none of its own, or no longer whole."""
    return type(getattr(error, "orig", None)).__name__ == "DatabaseError"


def _readable(file: Path) -> bool:
    """Whether an SQLite file, or an empty one, is whole as far as a quick look tells."""
    import sqlite3

    try:
        connection = sqlite3.connect(file, timeout=1)
        try:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False


def is_temporary(error: Exception) -> bool:
    """Whether what was refused may be taken later: the database is down, locked, full or read-only, or not the one."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    if not isinstance(error, DBAPIError):
        # Ours, or an argument that the driver does not take.
        return isinstance(error, (StoreReplacedError, OSError, MemoryError))
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state)[:2] in ("08", "25", "40", "53", "55", "57", "58")
    return isinstance(error, (OperationalError, InterfaceError))


def _no_table(error: Exception) -> bool:
    found = getattr(error, "orig", None)
    return getattr(found, "sqlstate", None) == "42P01" or "no such table" in str(found)


def outbox_folder(url: URL) -> Path:
    """Where the outbox of the database at `url` is: beside an SQLite file, else in the user's state folder."""
    file = sqlite_file(url)
    if file is not None:
        return file.with_name(f"{file.name}.pending")
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    key = hashlib.sha256(url.render_as_string(hide_password=True).encode()).hexdigest()[:16]
    return home / "nc_refiner" / "pending" / key


def _parsed(text: str) -> URL:
    try:
        from sqlalchemy.engine import URL, make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise ImportError(INSTALL) from error
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        scheme = text.partition("://")[0]
        raise ValueError(f"not a database URL (it starts with {scheme}://…): {_no_secrets(error, text)}") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(
            f"{url.get_backend_name()} is not supported; use sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    return url


def _no_secrets(error: Exception, text: str) -> str:
    return "it cannot be parsed" if text in str(error) else str(error)


def _engine(url: URL) -> Engine:
    from sqlalchemy import create_engine, event

    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url, connect_args={"timeout": 10})
        else:
            given = dict(url.query)
            # A server that does not answer must not hold up the writer for the minutes that TCP would.
            waits: Mapping[str, Any] = {} if "connect_timeout" in given else {"connect_timeout": 5}
            engine = create_engine(url, pool_pre_ping=True, pool_size=2, connect_args=dict(waits))
    except ImportError as error:
        raise ImportError(
            f"the driver for PostgreSQL is not installed ({error}); pip install 'nc_refiner[postgres]'"
        ) from error
    if url.get_backend_name() == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _: Any) -> None:
            # Readers and the writer do not block each other; unsupported on some network file systems, and not needed.
            with suppress(Exception):
                connection.execute("PRAGMA journal_mode=WAL")

    return engine


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


def _insert(url: URL, table: Any) -> Any:
    if url.get_backend_name() == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)
