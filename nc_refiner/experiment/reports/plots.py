"""The report's pictures, as SVG text: readable at the width of a phone."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...evaluation.extras import load
from ..statistics.analysis import Analysis, Comparison

__all__ = ["cumulative_plot", "forest_plot"]

COLOURS = {
    "better": "#1a7f4b",
    "worse": "#b3261e",
    "different": "#5b4bb5",
    "equivalent": "#2b6cb0",
    "undecided": "#6b7280",
    "too few": "#6b7280",
}
WIDTH = 5.2
INK = "#374151"


def _figure(height: float, width: float = WIDTH) -> tuple[Any, Any]:
    load("matplotlib").use("Agg", force=False)
    figure = load("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)
    return figure, axes


def _svg(figure: Any) -> str:
    """The figure as an SVG element; text stays text, and the same figure gives the same bytes."""
    buffer = io.StringIO()
    with load("matplotlib").rc_context({"svg.fonttype": "none", "svg.hashsalt": "nc_refiner", "font.size": 11}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def forest_plot(comparisons: Sequence[Comparison]) -> str:
    """Effects with their deciding intervals, each in standard deviations over units; to the right is better.

    Metrics without direction are drawn as they are. An interval that is infinite ends in an arrow at the edge.
    """
    rows = [c for c in comparisons if math.isfinite(c.difference)]
    figure, axes = _figure(0.9 + 0.3 * len(rows), 4.4)
    drawn = [_standardised(c) for c in rows]
    finite = [abs(x) for row in drawn for x in row if math.isfinite(x)]
    edge = 1.15 * max([*finite, 0.5])
    for y, (c, (low, middle, high)) in enumerate(zip(rows, drawn, strict=True)):
        colour = COLOURS[c.verdict]
        axes.plot([max(low, -edge), min(high, edge)], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt")
        for end, marker in ((low, "<"), (high, ">")):
            if not math.isfinite(end):
                axes.plot([math.copysign(edge, end)], [y], marker=marker, color=colour, markersize=7, clip_on=False)
        axes.plot([middle], [y], "o", color=colour, markersize=6)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(-edge, edge)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [c.metric.title + ("" if c.metric.sign else " *") for c in rows])
    axes.set_xlabel("← worse   (in sd over units)   better →", color=INK)
    return _svg(figure)


def _standardised(c: Comparison) -> tuple[float, float, float]:
    sign = c.metric.sign or 1
    if c.sample.paired:
        spread = float(np.std(c.sample.differences, ddof=1)) if len(c.sample.units) > 1 else 0.0
    else:
        spread = math.sqrt((float(np.var(c.sample.arm)) + float(np.var(c.sample.control))) / 2)
    # A difference that never varies has no such unit; it is drawn one unit from 0, on its side.
    scale = spread if spread > 1e-12 * abs(c.difference) else abs(c.difference)
    if not scale:
        return 0.0, 0.0, 0.0
    low, high = sorted((sign * c.deciding.low / scale, sign * c.deciding.high / scale))
    return low, sign * c.difference / scale, high


def cumulative_plot(analysis: Analysis, comparison: Comparison) -> str:
    """Mean difference after every unit, with the always-valid sequence; only where the sequence is finite."""
    sequence, c = comparison.confidence_sequence, comparison
    figure, axes = _figure(2.6)
    shown = np.isfinite(sequence.low) & np.isfinite(sequence.high)
    seen = np.isfinite(sequence.mean)
    axes.fill_between(
        sequence.count[shown], sequence.low[shown], sequence.high[shown], color="#2b6cb0", alpha=0.18, linewidth=0
    )
    axes.plot(sequence.count[seen], sequence.mean[seen], color="#2b6cb0", linewidth=1.8)
    axes.axhline(0, color=INK, linewidth=0.8)
    if shown.any():
        low, high = float(sequence.low[shown].min()), float(sequence.high[shown].max())
        last = 4 * max(sequence.high[-1] - sequence.low[-1], abs(c.difference), 1e-300)
        # The first looks know nothing; drawn to scale they would flatten all that follows.
        bottom, top = max(low, c.difference - last), min(high, c.difference + last)
        if bottom < top:
            axes.set_ylim(min(bottom, 0.0), max(top, 0.0))
    axes.set_xlabel("units seen", color=INK)
    axes.set_ylabel(f"{c.arm} − {c.control}", color=INK)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    return _svg(figure)
