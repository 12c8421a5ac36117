"""A manifest: one row a clip, with its prompt, its seed, its source, and columns that are carried along."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from ..config.document import ConfigError
from ..naming import one_line
from .prompts import Item, safe_name
from .sources import is_url
from .stages.base import Source

__all__ = ["OWN", "read_manifest"]

OWN = ("id", "prompt", "seed", "source")
"""Columns with a meaning; every other is carried along."""
MAX_ROWS = 1_000_000
LONGEST = 96
"""Characters of a folder's name."""
Row = tuple[str, dict[str, Any]]


def read_manifest(path: Path | str, seed: int = 0) -> list[Item]:
    """The items of a manifest, in its order.

    Args:
        path: a CSV file with a header, JSON Lines or Parquet, by its ending; a file or a URL. Sources are paths or
            URLs; a relative one is relative to the manifest's folder.
        seed: of the first row where there is no column `seed`; each further row has one more.

    Raises:
        ConfigError: it cannot be read, lacks a column, names a clip twice; one line that says where.
    """
    name = str(path)
    rows = _rows(name)
    items: list[Item] = []
    taken: dict[str, str] = {}
    for index, (where, row) in enumerate(rows):
        item = _item(name, where, row, index, seed)
        if item.name in taken:
            twice = row.get("id")
            raise ConfigError(f"{where}: the id {twice!r} is there twice, first in {taken[item.name]}; ids must differ")
        taken[item.name] = where
        items.append(item)
    if not 0 < len(items) <= MAX_ROWS:
        raise ConfigError(f"{name} holds {len(items)} rows; needed: 1 to {MAX_ROWS}")
    return items


def _rows(name: str) -> Iterable[Row]:
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".pq": _parquet}
    ending = PurePosixPath(name).suffix.lower()
    if ending not in readers:
        raise ConfigError(f"{name} is no manifest; its name must end in .csv, .jsonl or .parquet")
    content = _content(name)
    rows = list(readers[ending](name, content))
    columns = sorted({key for _, row in rows for key in row})
    if rows and not {"prompt", "source"} & set(columns):
        raise ConfigError(
            f"{name} has neither a column 'prompt' nor 'source'; its columns: {', '.join(map(str, columns)) or 'none'}"
        )
    return rows


def _content(name: str) -> bytes:
    try:
        if is_url(name):
            import fsspec

            system, place = fsspec.core.url_to_fs(name)
            return bytes(system.cat_file(place))
        return Path(name).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{name} does not exist; give a manifest") from None
    except Exception as error:  # every file system has errors of its own
        raise ConfigError(f"{name} cannot be read: {one_line(error)}") from None


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not a text file in UTF-8 ({error.reason}); give a manifest") from None


def _csv(name: str, content: bytes) -> Iterable[Row]:
    reader = csv.DictReader(io.StringIO(_text(name, content), newline=""), restkey="", strict=True)
    try:
        header = reader.fieldnames or []
        double = next((column for column in header if header.count(column) > 1), None)
        if double is not None:
            raise ConfigError(f"{name}:1: the column {double!r} is there twice")
        for row in reader:
            where = f"{name}:{reader.line_num}"
            if "" in row or None in row.values():
                raise ConfigError(f"{where}: this row has not as many cells as the header, {len(header)}")
            yield where, {key: value for key, value in row.items() if value != ""}
    except csv.Error as error:
        raise ConfigError(f"{name}:{reader.line_num}: {error}") from None


def _jsonl(name: str, content: bytes) -> Iterable[Row]:
    for number, line in enumerate(_text(name, content).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{name}:{number}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{name}:{number}: a row is an object with columns, found {type(row).__name__}")
        yield f"{name}:{number}", {key: value for key, value in row.items() if value is not None}


def _parquet(name: str, content: bytes) -> Iterable[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("a Parquet manifest needs pyarrow; pip install 'nc_refiner[ray]'") from None
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{name} is no Parquet file ({one_line(error, 200)})") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{name}, row {number}", {key: value for key, value in row.items() if value is not None}


def _item(name: str, where: str, row: dict[str, Any], index: int, first: int) -> Item:
    prompt, source = row.get("prompt"), row.get("source")
    for key, value in (("prompt", prompt), ("source", source)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise ConfigError(f"{where}: {key} is {value!r}; it must be text")
    if prompt is None and source is None:
        raise ConfigError(f"{where}: this row has neither a prompt nor a source")
    seed = _seed(where, row.get("seed", first + index))
    extra = {key: value for key, value in row.items() if key not in OWN}
    found = None if source is None else _source(name, source, prompt)
    if "id" in row:
        folder, extra = _named(str(row["id"])), {"id": str(row["id"]), **extra}
    else:
        folder = f"{index:03d}-{safe_name(str(prompt) if found is None else found.name)}"
    return Item(folder, prompt, seed, found, extra)


def _seed(where: str, value: Any) -> int:
    try:
        seed = int(value) if not isinstance(value, bool) and float(value) == int(value) else -1
    except (TypeError, ValueError, OverflowError):
        seed = -1
    if not 0 <= seed < 2**63:
        raise ConfigError(f"{where}: seed is {value!r}; it must be a whole number from 0 to 2^63 - 1")
    return seed


def _named(text: str) -> str:
    """A folder's name for an id: the id itself where every system takes it, else made so, told apart by a digest."""
    if re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{LONGEST - 1}}}", text):
        return text
    return f"{safe_name(text)}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _source(manifest: str, text: str, prompt: str | None) -> Source:
    stem = PurePosixPath(text).stem or "clip"
    if is_url(text):
        return Source(stem, prompt, Path(PurePosixPath(text).name), text)
    if is_url(manifest):
        return Source(stem, prompt, Path(PurePosixPath(text).name), f"{manifest.rpartition('/')[0]}/{text}")
    return Source(stem, prompt, Path(manifest).parent / text)
