"""Comparisons as rows of a forest plot and of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ...evaluation.catalogue import Metric
from ...pages import Row, forest_row
from ...pages.lines import line_plot
from ..statistics.analysis import Analysis, Comparison
from ..statistics.fixed_horizon import Interval
from ..statistics.ranking import Pairing
from ..statistics.segments import Segment
from .words import counted, number, span, test_of

__all__ = ["cumulative", "forest_of", "pair_row", "segment_row", "table_row"]

SAYS = {
    "better": "better",
    "worse": "worse",
    "different": "changed",
    "equivalent": "no difference that matters",
    "undecided": "not shown to differ",
    "too few": "too few to say anything",
}
RAILS = {
    "kept": "the guardrail is kept",
    "violated": "the guardrail is broken",
    "undecided": "whether the guardrail is kept is not settled",
}
POINTS = 400


def _kind(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _row(
    label: str, metric: Metric, verdict: str, difference: float, interval: Interval, words: str, base: float | None
) -> Row:
    low, high = interval.low, interval.high
    known = math.isfinite(low) or math.isfinite(high)
    said = SAYS[verdict]
    told_apart = verdict in ("better", "worse", "different") and math.isfinite(difference) and difference != 0
    if base and told_apart and "shift" not in metric.name and "dB" not in metric.title:
        # Twice as much and more is easier to grasp as a factor.
        share = difference / abs(base)
        way = "more" if share > 0 else "less"
        said += f", {100 * abs(share):.0f} % {way}" if abs(share) < 1 else f", {number(1 + share)} times as much"
    # Without an interval nothing is drawn that could pass for one.
    told = f"{label}: {said}; difference {number(difference)}" + (f", {span(low, high)}" if known else "")
    picture = forest_row(low, difference, high, metric.sign < 0, told) if known else Markup()
    between = f"{span(low, high)}" if known and low < high else "the same every time" if known else "no interval"
    shown = Markup('{} <span class="soft">{}</span>').format(number(difference), between)
    return Row(label, _kind(verdict), picture, shown, f"{said}{words}")


def forest_of(analysis: Analysis, compared: Sequence[Comparison]) -> dict[str, list[Row]]:
    """`directed` and `undirected` rows; of the former, right is better."""
    found: dict[str, list[Row]] = {"directed": [], "undirected": []}
    for c in compared:
        if not math.isfinite(c.difference):
            continue
        limit = analysis.options.guardrails.get(c.metric.name)
        guard = f" (guardrail: at most {str(limit).replace('x', ' times')} the control)" if limit is not None else ""
        if limit is not None and not str(limit).endswith("x"):
            guard = f" (guardrail: at most {limit} worse)"
        base = float(c.sample.control.mean()) if len(c.sample.control) else None
        rail = next((r for r in analysis.guardrails if r.arm == c.arm and r.metric.name == c.metric.name), None)
        words = "" if rail is None else f"; {RAILS[rail.verdict]}"
        row = _row(c.metric.title + guard, c.metric, c.verdict, c.estimate, c.deciding, words, base)
        found["directed" if c.metric.sign else "undirected"].append(row)
    return found


def segment_row(analysis: Analysis, one: Segment) -> Row:
    """One segment of one arm."""
    unit = analysis.options.unit
    words = f", {counted(one.units, unit)}"
    return _row(one.name, one.metric, one.verdict, one.difference, one.interval, words, one.control_mean)


def pair_row(one: Pairing, metric: Metric, base: float | None) -> Row:
    """Two arms against each other."""
    return _row(f"{one.arm} against {one.other}", metric, one.verdict, one.difference, one.interval, "", base)


def table_row(analysis: Analysis, c: Comparison) -> dict[str, Any]:
    """Every number of a comparison, as a table shows it."""
    always = float(c.confidence_sequence.low[-1]), float(c.confidence_sequence.high[-1])
    return {
        "label": c.metric.title,
        "better": {-1: "less is better", 1: "more is better", 0: "neither is better in itself"}[c.metric.sign],
        "kind": _kind(c.verdict),
        "verdict": SAYS[c.verdict],
        "control": number(float(c.sample.control.mean())) if len(c.sample.control) else "–",
        "arm": number(float(c.sample.arm.mean())) if len(c.sample.arm) else "–",
        "difference": number(c.estimate),
        "interval": span(c.deciding.low, c.deciding.high),
        "always": span(*always),
        "test": "–" if analysis.options.sequential else test_of(c),
        "method": c.method,
    }


def cumulative(analysis: Analysis, c: Comparison) -> Markup:
    """Mean difference after every unit, with the always-valid band where it is finite; empty with one unit."""
    sequence = c.confidence_sequence
    if len(sequence) < 2:
        return Markup()
    step = max(1, math.ceil(len(sequence) / POINTS))
    some = sorted({*range(0, len(sequence), step), len(sequence) - 1})
    seen = [(float(sequence.count[i]), float(sequence.mean[i])) for i in some if np.isfinite(sequence.mean[i])]
    band = [
        (float(sequence.count[i]), float(sequence.low[i]), float(sequence.high[i]))
        for i in some
        if np.isfinite(sequence.low[i]) and np.isfinite(sequence.high[i])
    ]
    limits = None
    if band and seen:
        # The first looks know nothing; drawn to scale they would flatten all that follows.
        room = 3 * max(band[-1][2] - band[-1][1], abs(c.difference), 1e-300)
        means = [value for _, value in seen]
        low = max(min(b for _, b, _ in band), c.difference - room)
        high = min(max(t for _, _, t in band), c.difference + room)
        limits = min(low, *means), max(high, *means)
    unit = analysis.options.unit
    says = f"{c.metric.title}: {c.arm} − {c.control} after every {unit}; now {number(c.difference)}"
    return line_plot({c.arm: seen}, (1, len(sequence)), f"{unit}s", says, band=band, limits=limits, zero=True)
