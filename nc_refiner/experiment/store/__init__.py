"""Where experiments are recorded: SQLite by default, PostgreSQL by URL."""

from .database import DeadLetter, Store, StoreReplacedError, open_store

__all__ = ["DeadLetter", "Store", "StoreReplacedError", "open_store"]
