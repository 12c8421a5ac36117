"""Whether a database is still the one that was opened, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DatabaseFile", "StoreReplacedError", "has_no_table", "is_damaged", "is_readable", "is_temporary"]


class StoreReplacedError(RuntimeError):
    """The database is no longer the one that was opened: it was removed, replaced or emptied while it was in use."""


@dataclass(frozen=True)
class DatabaseFile:
    """A database file and its write-ahead log as the system knows them; all None where there is none."""

    inode: tuple[int, int] | None
    size: int
    log: tuple[int, int] | None

    @classmethod
    def at(cls, path: Path | None) -> DatabaseFile:
        """As it is now."""

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

    def same(self, before: DatabaseFile) -> bool:
        """Whether it is the file of `before`, and not cut short since."""
        return self.inode is not None and self.inode == before.inode and self.size >= before.size


def is_damaged(error: Exception) -> bool:
    """Whether SQLite says that the file is none of its own, or no longer whole."""
    return type(getattr(error, "orig", None)).__name__ == "DatabaseError"


def is_readable(file: Path) -> bool:
    """Whether an SQLite file, or an empty one, is whole as far as a quick look tells."""
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


def has_no_table(error: Exception) -> bool:
    """Whether a table that was there is not there any more."""
    found = getattr(error, "orig", None)
    return getattr(found, "sqlstate", None) == "42P01" or "no such table" in str(found)
