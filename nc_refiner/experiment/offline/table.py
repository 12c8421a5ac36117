"""A sweep's rows as a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...evaluation.extras import needs
from ...files import AtomicFile

__all__ = ["write_parquet"]

TEXTS = ("plan", "refiner", "clip", "label", "method")
WHOLE = ("iterations", "seed", "num_inference_steps", "steps", "evaluations")
SERIES = ("content_loss",)


def write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `rows`, whole or not at all; what a row lacks is null. Columns keep their order of first appearance.

    Raises:
        ImportError: pyarrow is not installed. VideoError: `path` cannot be written.
    """
    with needs("pyarrow", "pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    names = list(dict.fromkeys(name for row in rows for name in row))

    def kind(name: str) -> Any:
        if name in TEXTS:
            return pa.string()
        if name in WHOLE:
            return pa.int64()
        return pa.list_(pa.float64()) if name in SERIES else pa.float64()

    schema = pa.schema([(name, kind(name)) for name in names])
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=schema)
    with AtomicFile(path) as file:
        pq.write_table(table, file.temporary)
        file.commit()
