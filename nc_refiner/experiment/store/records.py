"""What happens in an experiment, and the rows it becomes; rows are made off the request path."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from .database import Row
from .events import Assignment, SwitchState

__all__ = [
    "Failure",
    "Outcome",
    "Record",
    "RequestRecord",
    "SwitchRecord",
    "decoded",
    "encoded",
    "new_id",
    "normalised",
    "plain",
]

MESSAGE_LENGTH = 2000
MAX_RECORD = 2**20
"""Characters of one record."""


class Record(Protocol):
    """Anything that can say which rows it is."""

    def rows(self) -> list[Row]:
        """The rows, each with its unique `id`."""


def new_id() -> str:
    """A fresh name for a row, 32 characters."""
    return uuid.uuid4().hex


def derived_id(*parts: str) -> str:
    """A name that the same parts always get, 40 characters."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:40]


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
        found.append((table, {name: _value(name, row.get(name), *columns[name]) for name in columns if name in row}))
        missing = [name for name, (_, needed, _) in columns.items() if needed and name not in row]
        if missing:
            raise ValueError(f"{table}: {missing[0]} is missing")
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
        if math.isfinite(number) if kind == "float" else -(2**63) <= number < 2**63:
            return number
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    if needed:
        raise ValueError(f"{name} is {text(value)[:60]}; it must be a finite number")
    return None


@dataclass(frozen=True)
class Failure:
    """An arm's failure; `kind`: raised, nan, time, memory, busy; `caller` where the control failed as well."""

    arm: str
    kind: str
    message: str


@dataclass(frozen=True)
class RequestRecord:
    """One call of an arm, with all that is to be written about it.

    Attributes:
        experiment, unit: as in `Observation`. id: of the request. given: the unit's assignment.
        served: the arm whose output was returned; None if the request failed.
        role: `live` or `shadow`. exposed, measured: whether an exposure and measurements are written.
        seconds: the whole request's. at: its start. pair: shared by calls on the same clip and noise. seed: if known.
        failure: of the assigned arm, if it failed. content_loss: per iteration. receipt: the served run's.
        off: whether the assigned arm was switched off, and therefore not called.
    """

    experiment: str
    unit: str
    id: str
    given: Assignment
    served: str | None
    role: str
    exposed: bool
    measured: bool
    seconds: float
    at: float
    pair: str | None = None
    seed: int | None = None
    failure: Failure | None = None
    content_loss: Sequence[float] = ()
    receipt: Mapping[str, Any] | None = None
    off: bool = False

    def rows(self) -> list[Row]:
        """The rows of every table."""
        arm, common = self.given.arm, {"experiment": self.experiment, "unit": self.unit}
        request = {
            "id": self.id,
            **common,
            "assigned": arm,
            "served": self.served,
            "role": self.role,
            "reason": "off" if self.off else self.given.reason,
            "weight": self.given.weight,
            "pair": self.pair,
            "seed": self.seed,
            "seconds": self.seconds,
            "receipt": self.receipt,
            "at": self.at,
        }
        found: list[Row] = [("requests", request)]
        if self.failure is not None:
            words = {"kind": self.failure.kind, "message": self.failure.message[:MESSAGE_LENGTH]}
            key = derived_id(self.id, self.failure.arm, "error")
            found.append(
                ("errors", {"id": key, **common, "arm": self.failure.arm, "request": self.id, **words, "at": self.at})
            )
        if self.exposed:
            # The unit and the arm make the key: a unit that comes back is exposed once.
            key = derived_id(self.experiment, self.unit, arm)
            found.append(("exposures", {"id": key, **common, "arm": arm, "weight": self.given.weight, "at": self.at}))
        if self.measured:
            for metric, value in self._metrics().items():
                found += Outcome(
                    self.experiment, self.unit, arm, metric, value, self.at, self.id, self.pair, self.seed
                ).rows()
        return found

    def _metrics(self) -> dict[str, float]:
        failed = self.failure is not None and self.failure.kind != "caller"
        measured = {"seconds": self.seconds, "error": float(failed or self.served is None)}
        if self.failure is not None and self.failure.kind == "caller":
            # The control failed too: that says nothing about this arm.
            return {}
        if self.content_loss and self.served == self.given.arm:
            measured["content_loss"] = float(self.content_loss[-1])
        return measured


@dataclass(frozen=True)
class Outcome:
    """One number about a unit; fields as in `Observation`, `request` where it is about one request."""

    experiment: str
    unit: str
    arm: str
    metric: str
    value: float
    at: float = field(default_factory=time.time)
    request: str | None = None
    pair: str | None = None
    seed: int | None = None

    def rows(self) -> list[Row]:
        """One measurement, or none where there is no finite number."""
        if not math.isfinite(self.value):
            return []
        names = {name: getattr(self, name) for name in ("experiment", "unit", "arm", "metric")}
        rest = {"value": float(self.value), "request": self.request, "pair": self.pair, "seed": self.seed}
        key = new_id() if self.request is None else derived_id(self.request, self.arm, self.metric)
        return [("measurements", {"id": key, **names, **rest, "at": self.at})]


@dataclass(frozen=True)
class SwitchRecord:
    """The state of an arm, for the other processes of the experiment."""

    experiment: str
    state: SwitchState

    def rows(self) -> list[Row]:
        """One row."""
        state = self.state
        words = {"arm": state.arm, "is_on": state.on, "reason": state.reason[:MESSAGE_LENGTH], "at": state.at}
        return [("switches", {"id": new_id(), "experiment": self.experiment, **words})]
