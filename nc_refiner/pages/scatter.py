"""Points between two measures, each of which can be chosen by touch and by keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from .lines import number, ticks

__all__ = ["Dot", "scatter"]

WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 26, 52
RADIUS = 12


@dataclass(frozen=True)
class Dot:
    """One point.

    Attributes:
        x, y: where it is.
        text: a letter or two, written in it.
        series: its colour, 0 to 7.
        told: what it is, in words.
        point: number that a script knows it by.
        front: whether it is on the front; others are drawn hollow.
    """

    x: float
    y: float
    text: str
    series: int
    told: str
    point: int
    front: bool


def scatter(
    dots: Sequence[Dot],
    line: Sequence[tuple[float, float]],
    across: str,
    up: str,
    turned: bool,
) -> Markup:
    """The dots, with a line along the front.

    Args:
        dots: what is drawn.
        line: corners of the front, in order.
        across, up: names of the axes.
        turned: whether less is better across: it then stands to the right.
    """
    places = [(dot.x, dot.y) for dot in dots]
    if not places:
        return Markup()

    def limits(values: Sequence[float]) -> tuple[float, float]:
        low, high = min(values), max(values)
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        return low - room, high + room

    (x0, x1), (y0, y1) = limits([x for x, _ in places]), limits([y for _, y in places])

    def x(value: float) -> float:
        share = (value - x0) / (x1 - x0)
        return LEFT + (WIDTH - LEFT - RIGHT) * (1 - share if turned else share)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (y1 - value) / (y1 - y0)

    parts = []
    for tick in ticks(x0, x1, 4):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(tick)}</text>')
    for tick in ticks(y0, y1, 4):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}: nearer to the input →</text>'
    )
    parts.append(f'<text x="{LEFT}" y="14">↑ more {escape(up)}</text>')
    if len(line) > 1:
        corners = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        parts.append(f'<polyline class="front" points="{corners}"/>')
    # Those on the front last, above the others.
    for dot in sorted(dots, key=lambda dot: dot.front):
        kind = f"point s{dot.series}" + (" on" if dot.front else "")
        across_x, along_y = f"{x(dot.x):.1f}", f"{y(dot.y):.1f}"
        text_y = f"{y(dot.y) + 4:.1f}"
        parts.append(
            f'<g class="{kind}" data-point="{dot.point}" tabindex="0" role="button" aria-pressed="false" '
            f'aria-label="{escape(dot.told)}">'
            f'<circle cx="{across_x}" cy="{along_y}" r="{RADIUS}"/>'
            f'<text aria-hidden="true" x="{across_x}" y="{text_y}" text-anchor="middle">{escape(dot.text)}</text></g>'
        )
    return Markup(
        f'<svg class="plot scatter" role="group" aria-label="{escape(up)} against {escape(across)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    )
