"""Where experiments are recorded: SQLite by default, PostgreSQL by URL."""

from .database import DeadLetter, Store, open_store
from .health import StoreReplacedError

__all__ = ["DeadLetter", "Store", "StoreReplacedError", "open_store"]
