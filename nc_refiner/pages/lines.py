"""Lines over frames or clips as small inline SVG pictures that take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

__all__ = ["SERIES", "line_plot", "ticks"]

WIDTH, HEIGHT = 360, 160
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 26
SERIES = 8
"""Line styles of the page; more lines share them in turn."""

Points = Sequence[tuple[float, float]]


def ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About `count` round numbers within the range; `low` < `high`.

    >>> ticks(0.0, 1.0)
    [0.0, 0.5, 1.0]
    """
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number at an axis."""
    return f"{value:.4g}".replace("-", "−")


def line_plot(
    series: Mapping[str, Points],
    ends: tuple[int, int],
    unit: str,
    says: str,
    *,
    band: Sequence[tuple[float, float, float]] = (),
    limits: tuple[float, float] | None = None,
    zero: bool = False,
    cursor: bool = False,
) -> Markup:
    """One line per series; empty where none has a point.

    Args:
        series: label → (place, value), places from `ends[0]` to `ends[1]`.
        ends: first and last place of the axis, in whole `unit`s.
        unit: what the axis counts.
        says: the picture in words.
        band: (place, low, high), drawn behind the lines.
        limits: lowest and highest value shown; default: what the lines need.
        zero: draw 0 as a line and keep it in sight.
        cursor: a line that a script moves.
    """
    known = [value for points in series.values() for _, value in points]
    if not known:
        return Markup()
    low, high = limits if limits is not None else (min(known), max(known))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    first, last = ends

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((place - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(high, max(low, value))) / (high - low)

    parts = []
    for tick in ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    if zero:
        parts.append(f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    foot = HEIGHT - 7
    if last > first:
        parts.append(f'<text x="{LEFT}" y="{foot}">{first}</text>')
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{foot}" text-anchor="end">{last}</text>')
    middle = unit if last > first else f"{unit} {first}"
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{foot}" text-anchor="middle">{escape(middle)}</text>')
    if len(band) > 1:
        over = [f"{x(place):.1f},{y(top):.1f}" for place, _, top in band]
        back = [f"{x(place):.1f},{y(bottom):.1f}" for place, bottom, _ in reversed(band)]
        parts.append(f'<polygon class="band s0" points="{" ".join(over + back)}"/>')
    for index, (label, points) in enumerate(series.items()):
        kind = f"s{index % SERIES}"
        title = f"<title>{escape(label)}</title>"
        if len(points) == 1:
            (place, value) = points[0]
            parts.append(f'<circle class="dot {kind}" cx="{x(place):.1f}" cy="{y(value):.1f}" r="4">{title}</circle>')
        elif points:
            places = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in points)
            parts.append(f'<polyline class="line {kind}" points="{places}">{title}</polyline>')
    if cursor:
        parts.append(
            f'<line class="cursor" x1="{x(first):.1f}" x2="{x(first):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    return Markup(
        f'<svg class="plot" role="img" aria-label="{escape(says)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'data-left="{LEFT}" data-right="{WIDTH - RIGHT}">{"".join(parts)}</svg>'
    )
