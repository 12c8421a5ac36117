"""A forest plot: one row per comparison, its interval drawn on a scale of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Row", "forest_row"]

HEIGHT, MIDDLE = 30, 15
MARGIN = 4.0
LEAST = 5.0
"""Least width of a drawn interval, in percent of the row: a narrower one would be hidden by its dot."""


@dataclass(frozen=True)
class Row:
    """One row of a forest plot, ready to be shown.

    Attributes:
        label: what was compared.
        kind: class of its colour: `better`, `worse`, `different`, `equivalent`, `undecided`, `too-few`.
        picture: the drawn interval.
        number: the difference and its interval as text.
        words: what it says.
    """

    label: str
    kind: str
    picture: Markup
    number: str
    words: str


def forest_row(low: float, middle: float, high: float, flip: bool = False, says: str = "") -> Markup:
    """The interval from `low` to `high` around `middle`, with 0 dashed; empty where `middle` is no number.

    Every row has a scale of its own, so that no interval is too narrow to be seen beside a wide one; 0 stands at the
    same place in all of them. An end that is infinite is an arrow.

    Args:
        low, middle, high: in one unit; ends may be infinite.
        flip: whether less is better: it is then drawn to the right.
        says: the same in words, for who does not see it.
    """
    if not math.isfinite(middle):
        return Markup()
    if flip:
        low, middle, high = -high, -middle, -low
    finite = [abs(value) for value in (low, middle, high) if math.isfinite(value)]
    reach = 1.08 * max(finite) or 1.0

    def x(value: float) -> float:
        return 50 + (50 - MARGIN) * max(-1.0, min(1.0, value / reach))

    left, right = x(low), x(high)
    if right - left < LEAST:
        centre = (left + right) / 2
        left, right = centre - LEAST / 2, centre + LEAST / 2
    parts = [f'<line class="zero" x1="50%" x2="50%" y1="0" y2="{HEIGHT}"/>']
    parts.append(f'<line class="bar" x1="{left:.2f}%" x2="{right:.2f}%" y1="{MIDDLE}" y2="{MIDDLE}"/>')
    for end, place, way in ((low, left, -1), (high, right, 1)):
        if math.isfinite(end):
            parts.append(f'<line class="cap" x1="{place:.2f}%" x2="{place:.2f}%" y1="{MIDDLE - 7}" y2="{MIDDLE + 7}"/>')
        else:
            arrow = f'<polygon class="more" points="{10 * way},{MIDDLE} 0,{MIDDLE - 6} 0,{MIDDLE + 6}"/>'
            parts.append(f'<svg x="{place:.2f}%" y="0" overflow="visible">{arrow}</svg>')
    parts.append(f'<circle class="dot" cx="{x(middle):.2f}%" cy="{MIDDLE}" r="5"/>')
    label = f' role="img" aria-label="{escape(says)}"' if says else ' aria-hidden="true"'
    return Markup(f"<svg{label}>{''.join(parts)}</svg>")
