"""The store: one engine, rows in, observations and exposures out."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..statistics.observations import Exposure, Observation
from .events import SwitchState
from .health import DatabaseFile, StoreReplacedError, has_no_table, is_damaged, is_readable, is_temporary
from .urls import insert_into, lock_for_migration, make_engine, parsed_url, sqlite_file

__all__ = ["DeadLetter", "Row", "Store", "open_store"]

log = logging.getLogger(__name__)

Row = tuple[str, dict[str, Any]]
"""A table's name and one row of it, with its `id`."""

_MIGRATING = threading.Lock()
MIGRATIONS = Path(__file__).with_name("migrations")


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
        self.url = parsed_url(os.fspath(url))
        self.engine = make_engine(self.url)
        self.migrated = False
        self._identity: str | None = None
        self._file: DatabaseFile | None = None
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
        try:
            # Alembic's context is one for the whole process.
            with _MIGRATING, self.engine.connect() as connection:
                lock_for_migration(connection)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            self._identity = self._read_identity(make=True)
        except CommandError as error:
            raise ValueError(f"{self.name}: {error}; it was made by a newer nc_refiner, upgrade this one") from error
        except Exception:
            # A connection may be to a file that was removed meanwhile; the next attempt begins with fresh ones.
            self.engine.dispose()
            raise
        # Read again by a connection made now: one from before may be to a file that was removed meanwhile.
        self.engine.dispose()
        before = DatabaseFile.at(sqlite_file(self.url))
        found = self._read_identity()
        self._file = DatabaseFile.at(sqlite_file(self.url))
        if found != self._identity or self._file.inode != before.inode:
            raise StoreReplacedError(f"{self.name} was removed or replaced while it was opened")
        self.migrated = True

    def _read_identity(self, make: bool = False) -> str | None:
        from sqlalchemy import select
        from sqlalchemy.exc import DatabaseError

        from .schema import identity

        row = {"id": "database", "value": uuid.uuid4().hex}
        try:
            with self.engine.begin() as connection:
                if make:
                    connection.execute(insert_into(self.url, identity).on_conflict_do_nothing(), [row])
                return connection.execute(select(identity.c.value)).scalar()
        except DatabaseError as error:
            if make or (is_temporary(error) and not has_no_table(error)):
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
        now = DatabaseFile.at(file)
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
        if not is_readable(file) or self._read_identity() != self._identity:
            raise StoreReplacedError(f"{self.name} was replaced or emptied while it was in use")
        self._file = DatabaseFile.at(file)

    def adopt(self) -> None:
        """Take what is at the URL now for the database, after `StoreReplacedError`; made anew where there is none."""
        self.engine.dispose()
        self.migrated, self._identity, self._file = False, None, None
        file = sqlite_file(self.url)
        if file is not None and file.exists() and not is_readable(file):
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

        # One statement takes rows of one table that have the same columns.
        alike: dict[tuple[str, frozenset[str]], list[dict[str, Any]]] = {}
        for table, row in rows:
            alike.setdefault((table, frozenset(row)), []).append(row)
        self._check_file()
        try:
            with self.engine.begin() as connection:
                if self._identity is not None:
                    found = connection.execute(select(identity.c.value)).scalar()
                    if found != self._identity:
                        raise StoreReplacedError(f"{self.name} was replaced while it was in use")
                for (table, _), values in alike.items():
                    insert = insert_into(self.url, TABLES[table])
                    if replace:
                        new = {column: insert.excluded[column] for column in values[0] if column != "id"}
                        statement = insert.on_conflict_do_update(index_elements=["id"], set_=new)
                    else:
                        statement = insert.on_conflict_do_nothing()
                    connection.execute(statement, values)
        except DatabaseError as error:
            if self._identity is not None and (has_no_table(error) or is_damaged(error)):
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
