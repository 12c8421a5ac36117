"""From a URL to an engine: SQLite by default, PostgreSQL by URL; and where the outbox of a database is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

__all__ = ["insert_into", "lock_for_migration", "make_engine", "outbox_folder", "parsed_url", "sqlite_file"]

INSTALL = "the experiment store needs SQLAlchemy and Alembic; pip install 'nc_refiner[experiment]'"
# Any number will do as long as no other program on the server picks it.
MIGRATION_LOCK = 0x6E635F7265666E65


def sqlite_file(url: URL) -> Path | None:
    """The file behind an SQLite URL; None for a server, or a database in memory."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def outbox_folder(url: URL) -> Path:
    """Where the outbox of the database at `url` is: beside an SQLite file, else in the user's state folder."""
    file = sqlite_file(url)
    if file is not None:
        return file.with_name(f"{file.name}.pending")
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    key = hashlib.sha256(url.render_as_string(hide_password=True).encode()).hexdigest()[:16]
    return home / "nc_refiner" / "pending" / key


def parsed_url(text: str) -> URL:
    """The URL in `text`, or of the SQLite file it names; ValueError, ImportError as `Store`."""
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


def make_engine(url: URL) -> Engine:
    """An engine that connects when it is first used; ImportError where the driver is not installed."""
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


def lock_for_migration(connection: Connection) -> None:
    """Hold the database against other processes that migrate, until the transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")


def insert_into(url: URL, table: Any) -> Any:
    """An insert that can say what to do about an `id` that is there already."""
    if url.get_backend_name() == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert(table)
