"""Numbers frame by frame as small inline SVG pictures that take their colours from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from .catalogue import METRICS

__all__ = ["SERIES", "plot"]

WIDTH, HEIGHT = 360, 150
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 24
POINTS = 400
SERIES = 8
"""Line styles of the page; more outputs share them in turn."""

Values = Sequence[float | None]


def _thinned(values: Values) -> list[tuple[float, float]]:
    """(frame, value) of at most `POINTS` averages of neighbouring frames; frames without a value are left out."""
    step = max(1, math.ceil(len(values) / POINTS))
    points = []
    for start in range(0, len(values), step):
        known = [value for value in values[start : start + step] if value is not None]
        if known:
            points.append((start + (min(step, len(values) - start) - 1) / 2, sum(known) / len(known)))
    return points


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers within the range."""
    raw = (high - low) / 3
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def plot(name: str, series: Mapping[str, Values]) -> Markup:
    """The metric `name` over frames, one line per output; empty where no output has a value.

    Args:
        name: of the catalogue.
        series: output's label → one value per frame, None where there is none.
    """
    metric = METRICS[name]
    lines = {label: _thinned(values) for label, values in series.items()}
    known = [value * metric.factor for points in lines.values() for _, value in points]
    if not known:
        return Markup()
    low, high = min(known), max(known)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    frames = max(len(values) for values in series.values())

    def x(frame: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (frame / (frames - 1) if frames > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = []
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">1</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{frames}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">frame</text>')
    for number, (label, points) in enumerate(lines.items()):
        places = " ".join(f"{x(frame):.1f},{y(value * metric.factor):.1f}" for frame, value in points)
        kind = "dot" if len(points) == 1 else "line"
        shape = (
            (
                f'<circle cx="{places.split(",")[0]}" cy="{places.split(",")[1]}" r="3"'
                if kind == "dot"
                else f'<polyline points="{places}"'
            )
            if points
            else ""
        )
        if shape:
            parts.append(f'{shape} class="{kind} s{number % SERIES}"><title>{escape(label)}</title>')
            parts.append("</circle>" if kind == "dot" else "</polyline>")
    cursor = f'<line class="cursor" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    words = f"{metric.label} per frame: {low:.4g} to {high:.4g}"
    return Markup(
        f'<svg class="plot" role="img" aria-label="{escape(words)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'data-left="{LEFT}" data-right="{WIDTH - RIGHT}">{"".join(parts)}{cursor}</svg>'
    )
