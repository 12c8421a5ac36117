"""Records as they wait and are stored: JSON of their rows, every value such as every database takes it."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, Protocol

from .database import Row, Store
from .health import is_temporary

__all__ = ["MESSAGE_LENGTH", "Record", "decoded", "encoded", "normalised", "plain", "replayed", "text"]

MESSAGE_LENGTH = 2000
MAX_RECORD = 2**20
"""Characters of one record."""


class Record(Protocol):
    """Anything that can say which rows it is."""

    def rows(self) -> list[Row]:
        """The rows, each with its unique `id`."""


def plain(value: Any, depth: int = 16) -> Any:
    """`value` as every database's JSON can hold it: numbers that are not finite become null, odd objects their text."""
    if value is None or isinstance(value, (bool, str)):
        return text(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if value.bit_length() < 64 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth and isinstance(value, Mapping):
        return {text(key): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray)):
        return [plain(item, depth - 1) for item in value]
    shape = getattr(value, "shape", None)
    if shape is not None:
        # A single number of NumPy's or torch's is a number; the values of a picture are no part of a record.
        item = getattr(value, "item", None)
        if callable(item) and not tuple(shape):
            return plain(item(), 0)
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return text(value)[:MESSAGE_LENGTH]


def text(value: object) -> str:
    """`value` in words, without what PostgreSQL's text cannot hold: NUL and lone surrogates."""
    try:
        said = str(value)
    except Exception:  # whatever an object's own method does, it is of someone else's making
        said = f"{type(value).__name__} that cannot be put into words"
    return said.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def encoded(record: Record) -> str:
    """`record` as it waits and is stored: JSON of its rows, every value such as every database takes it.

    Raises:
        ValueError: a value that its column can never hold, by the column's name; or too much of it.
    """
    rows = normalised(record.rows())
    found = json.dumps(rows, allow_nan=False)
    if len(found) > MAX_RECORD:
        for _, row in rows:
            if row.get("receipt") is not None:
                row["receipt"] = {"left_out": f"{len(found)} characters, the most are {MAX_RECORD}"}
        found = json.dumps(rows, allow_nan=False)
    if len(found) > MAX_RECORD:
        raise ValueError(f"the record has {len(found)} characters; the most are {MAX_RECORD}")
    return found


def decoded(record: str) -> list[Row]:
    """The rows of a text that `encoded` made; ValueError where it did not."""
    try:
        rows = [(str(table), dict(row)) for table, row in json.loads(record)]
    except (TypeError, RecursionError) as error:
        raise ValueError(f"this is no record: {error}") from None
    return normalised(rows)


def replayed(store: Store, experiment: str | None = None) -> int:
    """Write the dead letters of `store` again; how many it takes now. The others stay."""
    from sqlalchemy.exc import DBAPIError, StatementError

    taken = 0
    for letter in store.dead_letters(experiment):
        try:
            store.write(decoded(letter.record))
        except (ValueError, StatementError) as error:
            if isinstance(error, DBAPIError) and is_temporary(error):
                raise
            continue
        store.forget_letter(letter)
        taken += 1
    return taken


def normalised(rows: Iterable[Row]) -> list[Row]:
    """Rows with every column of their table, its value of the column's kind; ValueError as `encoded`."""
    found = []
    for table, row in rows:
        columns = _columns().get(table)
        if columns is None:
            raise ValueError(f"there is no table {table!r}")
        unknown = row.keys() - columns.keys()
        if unknown:
            raise ValueError(f"{table} has no column {sorted(unknown)[0]!r}")
        missing = [name for name, (_, needed, _) in columns.items() if needed and name not in row]
        if missing:
            raise ValueError(f"{table}: {missing[0]} is missing")
        found.append((table, {name: _value(name, row.get(name), *columns[name]) for name in columns if name in row}))
    return found


@lru_cache(maxsize=1)
def _columns() -> dict[str, dict[str, tuple[str, bool, int | None]]]:
    """Table → column → kind of its values, whether it must have one, and most characters."""
    from .schema import TABLES

    return {
        name: {
            column.name: (
                "json" if type(column.type).__name__ == "JSON" else column.type.python_type.__name__,
                not column.nullable and column.server_default is None,
                getattr(column.type, "length", None),
            )
            for column in table.columns
        }
        for name, table in TABLES.items()
    }


def _value(name: str, value: Any, kind: str, needed: bool, length: int | None) -> Any:
    if value is None:
        if needed:
            raise ValueError(f"{name} is missing")
        return None
    if kind == "json":
        return plain(value)
    if kind == "str":
        said = text(value)
        if name in ("id", "request", "pair") and length is not None and len(said) > length:
            raise ValueError(f"{name} has {len(said)} characters; the most are {length}")
        return said[:length]
    if kind == "bool":
        return bool(value)
    try:
        number = float(value) if kind == "float" else operator.index(value)
        fits = math.isfinite(number) if kind == "float" else -(2**63) <= number < 2**63
    except (TypeError, ValueError, OverflowError, RuntimeError):
        fits = False
    if fits:
        return number
    if needed:
        raise ValueError(f"{name} is {text(value)[:60]}; it must be a finite number")
    return None
