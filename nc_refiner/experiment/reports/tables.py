"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line per row, cells padded to the width of their column; all rows are equally long.

    >>> list(aligned([("metric", "p"), ("mse", "0.01")]))
    ['metric  p', 'mse     0.01']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
