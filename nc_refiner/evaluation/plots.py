"""Numbers frame by frame as small pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..pages.lines import SERIES, line_plot
from .catalogue import METRICS

__all__ = ["SERIES", "plot"]

POINTS = 400

Values = Sequence[float | None]


def _thinned(values: Values, factor: float) -> list[tuple[float, float]]:
    """(frame, value) of at most `POINTS` averages of neighbouring frames; frames without a value are left out."""
    step = max(1, math.ceil(len(values) / POINTS))
    points = []
    for start in range(0, len(values), step):
        known = [value for value in values[start : start + step] if value is not None]
        if known:
            points.append((1 + start + (min(step, len(values) - start) - 1) / 2, factor * sum(known) / len(known)))
    return points


def plot(name: str, series: Mapping[str, Values]) -> Markup:
    """The metric `name` over frames, one line per output; empty where no output has a value.

    Args:
        name: of the catalogue.
        series: output's label → one value per frame, None where there is none.
    """
    metric = METRICS[name]
    lines = {label: _thinned(values, metric.factor) for label, values in series.items()}
    known = [value for points in lines.values() for _, value in points]
    if not known:
        return Markup()
    frames = max(len(values) for values in series.values())
    says = f"{metric.label} frame by frame: {min(known):.4g} to {max(known):.4g}"
    return line_plot(lines, (1, frames), "frame", says, cursor=True)
