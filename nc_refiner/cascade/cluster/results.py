"""The table of results: one row a clip, in Parquet, written while clips finish.

Finished rows go to small files in `results.parts/`, which `results.parquet` takes up when the run ends. `read_results`
reads both; whichever row is newer stands for its clip.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...config.document import ConfigError
from ...naming import one_line
from ..prompts import Item
from ..stages.base import Kind
from .destination import Destination, at
from .state import State

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARTS", "TABLE", "Results", "read_results"]

TABLE, PARTS = "results.parquet", "results.parts"
EVERY, MOST = 5.0, 500
"""Seconds between two files, and rows of one."""


def read_results(place: str) -> pa.Table:
    """The table in an output folder or at its URL, while a run goes on too: one row a clip.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    found = _merged(at(place))
    if found is None:
        raise ConfigError(f"{place} holds no table of results; run a cascade into it with --workers or --ray")
    return found


def _parts(place: Destination) -> list[str]:
    return [f"{PARTS}/{name}" for name in place.names(PARTS) if name.endswith(".parquet")]


def _merged(place: Destination) -> pa.Table | None:
    """Every row there is; None without a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for name in (TABLE, *_parts(place)):
        content = place.read(name)
        if content is None:
            continue
        try:
            tables.append(pq.read_table(pa.BufferReader(content)))
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{place.where(name)} cannot be read ({one_line(error, 200)}); remove it") from None
    if not tables:
        return None
    whole = pa.concat_tables(tables, promote_options="permissive")
    last: dict[str, int] = {name: index for index, name in enumerate(whole["name"].to_pylist())}
    return whole if len(last) == len(whole) else whole.take(sorted(last.values()))


class Results:
    """The table of a run that is under way.

    Args:
        place: where the run writes.
        items: of the run; their extra columns become columns.
        kinds: the stages that run.
        run: identity of the run.

    Raises:
        ConfigError: an extra column has a name of ours; a table that is there cannot be read.
    """

    def __init__(self, place: Destination, items: list[Item], kinds: list[Kind], run: str):
        self.place, self.kinds = place, kinds
        self._stem = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{run}"
        self._rows: list[dict[str, Any]] = []
        self._count, self._last = 0, time.monotonic()
        self.schema = _schema(items, kinds)
        before = self.compact()
        self._done: dict[str, str] = {}
        if before is not None:
            pairs = zip(before["name"].to_pylist(), before["status"].to_pylist(), strict=True)
            self._done = {name: "" for name, status in pairs if status == "done"}

    def add(self, item: Item, state: State, folder: str) -> dict[str, Any]:
        """Take a clip's row; one that stands in the table and was only looked at again is not written twice."""
        row = _row(item, state, folder, self.kinds)
        known = item.name in self._done and state.error is None
        if not (known and all(how == "skipped" for how in state.stages.values())):
            self._rows.append(row)
        if len(self._rows) >= MOST or (self._rows and time.monotonic() - self._last >= EVERY):
            self.flush()
        return row

    def flush(self) -> None:
        """Write what has come in since the last time."""
        import pyarrow as pa

        self._last = time.monotonic()
        if not self._rows:
            return
        self._count += 1
        table = pa.Table.from_pylist(self._rows, schema=self.schema)
        self.place.write(f"{PARTS}/{self._stem}-{self._count:06d}.parquet", _bytes(table))
        self._rows.clear()

    def compact(self) -> pa.Table | None:
        """Make one file of all; returns it, or None where there is nothing yet."""
        self.flush()
        parts = _parts(self.place)
        found = _merged(self.place)
        if found is not None and parts:
            self.place.write(TABLE, _bytes(found))
            for name in parts:
                self.place.remove(name)
        return found


def _bytes(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    held = io.BytesIO()
    pq.write_table(table, held, compression="zstd")
    return held.getvalue()


def _schema(items: Iterable[Item], kinds: list[Kind]) -> pa.Schema:
    import pyarrow as pa

    fields = [
        ("name", pa.string()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("source", pa.string()),
        ("status", pa.string()),
        ("cause", pa.string()),
        ("error", pa.string()),
        ("attempts", pa.int64()),
        *((f"{kind}_{what}", form) for kind in kinds for what, form in _each(pa)),
        ("content_loss", pa.list_(pa.float64())),
        ("evaluations", pa.int64()),
        ("notes", pa.list_(pa.string())),
        ("folder", pa.string()),
        ("final", pa.string()),
        ("worker", pa.string()),
    ]
    names = {name for name, _ in fields}
    values: dict[str, list[Any]] = {}
    for item in items:
        for key, value in item.extra.items():
            values.setdefault(key, []).append(value)
    taken = next((key for key in values if key in names), None)
    if taken is not None:
        raise ConfigError(f"the manifest's column {taken!r} has the name of a column of the results; rename it")
    for key, column in values.items():
        try:
            form = pa.array(column).type
        except pa.ArrowException as error:
            raise ConfigError(f"the manifest's column {key!r} mixes kinds of values ({error})") from None
        fields.append((key, form))
    return pa.schema(fields)


def _each(pa: Any) -> list[tuple[str, Any]]:
    return [("state", pa.string()), ("seconds", pa.float64()), ("attempts", pa.int64())]


def _row(item: Item, state: State, folder: str, kinds: list[Kind]) -> dict[str, Any]:
    source = item.source
    row: dict[str, Any] = {
        "name": item.name,
        "prompt": item.prompt,
        "seed": item.seed,
        "source": None if source is None else source.url or str(source.path),
        "status": "done" if state.error is None else "failed",
        "cause": state.cause,
        "error": state.error,
        "attempts": max(state.tries.values(), default=0),
        "content_loss": state.content_loss,
        "evaluations": state.evaluations,
        "notes": state.notes,
        "folder": folder,
        "final": state.final,
        "worker": state.worker,
    }
    for kind in kinds:
        row[f"{kind}_state"] = state.stages.get(kind)
        row[f"{kind}_seconds"] = state.seconds.get(kind)
        row[f"{kind}_attempts"] = state.tries.get(kind)
    return {**row, **item.extra}
