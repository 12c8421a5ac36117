"""Plain aligned tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A title, a header and rows: first column to the left, all others to the right; ends with an empty line.

    >>> print(table("Sizes", ["what", "n"], [["one", "1"], ["thousand", "1000"]]), end="")
    Sizes
      what         n
      one          1
      thousand  1000
    <BLANKLINE>
    """
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [title]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0] = line[0].ljust(widths[0])
        text.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(text) + "\n\n"
