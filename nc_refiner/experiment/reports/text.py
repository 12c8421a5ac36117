"""An analysis as plain data (`--json`) and as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..statistics.analysis import Analysis, Comparison
from ..statistics.deciding import NONE
from ..statistics.fixed_horizon import Interval
from ..statistics.ranking import Ranking
from ..statistics.segments import Segment
from .words import WAYS, conclude, counted, number, rail_sentence, span

__all__ = ["aligned", "as_data", "as_lines", "footnotes"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ends(interval: Interval) -> dict[str, Any]:
    return {"low": _finite(interval.low), "high": _finite(interval.high), "method": interval.method}


def _comparison(c: Comparison) -> dict[str, Any]:
    return {
        "metric": c.metric.name,
        "better": WAYS[c.metric.sign],
        "arm": c.arm,
        "control": c.control,
        "paired": c.sample.paired,
        "units": len(c.sample.units),
        "units_arm": len(c.sample.arm),
        "units_control": len(c.sample.control),
        "mean_arm": _finite(float(c.sample.arm.mean())) if len(c.sample.arm) else None,
        "mean_control": _finite(float(c.sample.control.mean())) if len(c.sample.control) else None,
        "difference": _finite(c.difference),
        "interval": _ends(c.interval),
        "estimate": _finite(c.estimate),
        "test": c.test,
        "method": c.method,
        "p": c.p,
        "corrected": c.corrected,
        "p_holm": c.p_adjusted if c.corrected else None,
        "skewed": c.skewed,
        "note": c.note,
        "always_valid": {
            "low": _finite(float(c.confidence_sequence.low[-1])),
            "high": _finite(float(c.confidence_sequence.high[-1])),
        },
        "always_valid_corrected": _ends(c.sequential),
        "p_always_valid": c.p_sequential,
        "verdict": c.verdict,
    }


def _ranking(found: Ranking | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "metric": found.metric.name,
        "better": WAYS[found.metric.sign],
        "sentence": found.sentence,
        "standings": [
            {
                "place": one.place,
                "arm": one.arm,
                "mean": _finite(one.mean),
                "units": one.units,
                "beats": list(one.beats),
                "loses_to": list(one.loses_to),
            }
            for one in found.standings
        ],
        "pairs": [
            {
                "arm": pair.arm,
                "other": pair.other,
                "difference": _finite(pair.difference),
                "interval": _ends(pair.interval),
                "test": pair.test,
                "p": pair.p,
                "p_holm": pair.p_adjusted,
                "units": pair.units,
                "verdict": pair.verdict,
            }
            for pair in found.pairs
        ],
    }


def _segment(found: Segment) -> dict[str, Any]:
    return {
        "segment": found.name,
        "by": found.by,
        "arm": found.arm,
        "metric": found.metric.name,
        "units": found.units,
        "mean_control": _finite(found.control_mean),
        "mean_arm": _finite(found.arm_mean),
        "difference": _finite(found.difference),
        "interval": _ends(found.interval),
        "test": found.test,
        "p": found.p,
        "p_holm": found.p_adjusted,
        "verdict": found.verdict,
    }


def as_data(analysis: Analysis) -> dict[str, Any]:
    """The analysis, JSON-ready; an end of an interval that is infinite is null."""
    options, ratio = analysis.options, analysis.sample_ratio
    return {
        "experiment": analysis.experiment,
        "control": options.control,
        "primary": options.primary,
        "alpha": options.alpha,
        "decided_by": "always-valid intervals" if options.sequential else "one look",
        "conclusions": [
            {
                "arm": c.arm,
                "decision": c.decision,
                "headline": c.headline,
                "reasons": list(c.reasons),
                "others": list(c.others),
            }
            for c in conclude(analysis)
        ],
        "fixed_in_advance": analysis.fixed,
        "ranking": _ranking(analysis.ranking),
        "segments": [_segment(segment) for segment in analysis.segments],
        "worst": {arm: [asdict(one) for one in analysis.worst(arm)] for arm in analysis.arms},
        "best": {arm: [asdict(one) for one in analysis.best(arm)] for arm in analysis.arms},
        "comparisons": [_comparison(comparison) for comparison in analysis.comparisons],
        "guardrails": [
            {
                "metric": rail.metric.name,
                "arm": rail.arm,
                "limit": rail.limit,
                "excess": _finite(rail.excess),
                "interval": _ends(rail.interval),
                "verdict": rail.verdict,
            }
            for rail in analysis.guardrails
        ],
        "sample_ratio": None
        if ratio is None
        else {
            "counts": dict(ratio.counts),
            "expected": dict(ratio.expected),
            "p": ratio.p,
            "p_always_valid": ratio.p_sequential,
            "mismatch": ratio.mismatch,
            "units_in_several_arms": ratio.mixed_units,
            "note": ratio.note,
        },
        "notes": list(analysis.notes),
    }


def as_lines(analysis: Analysis) -> Iterator[str]:
    """The analysis for a terminal: conclusions first, then tables, then how it was decided."""
    yield from dict.fromkeys(conclusion.headline for conclusion in conclude(analysis))
    yield ""
    yield from aligned(_table(analysis))
    if analysis.guardrails:
        yield ""
    for rail in analysis.guardrails:
        yield rail_sentence(rail, analysis)
    yield from _ranked(analysis)
    yield from _segmented(analysis)
    yield from _extremes(analysis)
    yield ""
    yield from footnotes(analysis)


def _table(analysis: Analysis) -> list[tuple[str, ...]]:
    sequential = analysis.options.sequential
    rows: list[tuple[str, ...]] = [
        ("metric", "arm", "control → arm", "difference", "interval", "p", "p (Holm)", "verdict")
    ]
    for c in analysis.comparisons:
        means = [number(float(values.mean())) if len(values) else "–" for values in (c.sample.control, c.sample.arm)]
        rows.append(
            (
                c.metric.name,
                c.arm,
                " → ".join(means),
                number(c.estimate),
                span(c.deciding.low, c.deciding.high),
                "–" if sequential or c.test == NONE else f"{c.p:.3g}",
                "–" if sequential or not c.corrected or c.test == NONE else f"{c.p_adjusted:.3g}",
                c.verdict,
            )
        )
    # Where always-valid intervals decide, p values of one look would only mislead.
    return [(*row[:5], row[7]) for row in rows] if sequential else rows


def _ranked(analysis: Analysis) -> Iterator[str]:
    """The arms against each other; of two arms the headline has said it."""
    ranking = analysis.ranking
    if ranking is None or len(ranking.standings) < 3:
        return
    yield ""
    yield ranking.sentence
    rows = [("place", "arm", f"mean {ranking.metric.name}", "ahead of")]
    for one in ranking.standings:
        rows.append((str(one.place), one.arm, number(one.mean), ", ".join(one.beats) or "–"))
    yield from aligned(rows)


def _segmented(analysis: Analysis) -> Iterator[str]:
    if not analysis.segments:
        return
    first, unit = analysis.segments[0], analysis.options.unit
    yield ""
    yield f"{first.metric.title} by {first.by}, corrected for looking at several:"
    rows = [(first.by, "arm", f"{unit}s", "difference", "interval", "p (Holm)", "verdict")]
    for one in analysis.segments:
        known = one.units >= 2
        rows.append(
            (
                one.name,
                one.arm,
                str(one.units),
                number(one.difference),
                span(one.interval.low, one.interval.high) if known else "–",
                f"{one.p_adjusted:.3g}" if known and not analysis.options.sequential else "–",
                one.verdict,
            )
        )
    yield from aligned(rows)


def _extremes(analysis: Analysis) -> Iterator[str]:
    for arm in analysis.arms:
        primary, worst = analysis.primary(arm), analysis.worst(arm)
        if primary is None or not worst or len(primary.sample.units) < 2:
            continue
        yield ""
        have, of = len(primary.sample.units), analysis.options.unit
        yield f"{arm} is worst on these of {counted(have, of)} ({primary.metric.name}, control → arm):"
        yield from aligned(
            [(f"  {one.unit}", f"{number(one.control)} → {number(one.arm)}", number(one.difference)) for one in worst]
        )


def footnotes(analysis: Analysis) -> Iterator[str]:
    """How it was decided: the look, the methods, the shares of units, and what else a reader must know."""
    options, ratio = analysis.options, analysis.sample_ratio
    if options.sequential:
        yield "Decided by always-valid intervals: looking again later is safe."
    elif analysis.fixed:
        yield f"Decided by one look at a number of {options.unit}s that the experiment's file fixed in advance."
    else:
        yield (
            f"Decided as one look. That is right only if the number of {options.unit}s was fixed before they were "
            "measured, which is not recorded."
        )
    methods: dict[str, list[str]] = {}
    for c in analysis.comparisons:
        if c.test != NONE or options.sequential:
            methods.setdefault(c.method, []).append(c.metric.name)
    for method, names in methods.items():
        where = f" ({', '.join(dict.fromkeys(names))})" if len(methods) > 1 else ""
        yield f"Method: {method}{where}."
    if ratio is not None:
        p = f", p = {ratio.p:.3g}" if ratio.p is not None else ""
        counts = ", ".join(f"{arm} {count}" for arm, count in ratio.counts.items())
        yield f"Units per arm: {counts}{p}{'; ' + ratio.note if ratio.note else ''}"
        if ratio.mixed_units:
            was = "was" if ratio.mixed_units == 1 else "were"
            yield f"{counted(ratio.mixed_units, options.unit)} {was} given more than one arm."
    yield from analysis.notes


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line per row, cells padded to the width of their column; all rows are equally long.

    >>> list(aligned([("metric", "p"), ("mse", "0.01")]))
    ['metric  p', 'mse     0.01']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
