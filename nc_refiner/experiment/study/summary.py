"""A study's analysis in plain words, as lines for a terminal and as plain data (`--json`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..reports.text import aligned
from ..reports.words import counted
from ..statistics.fixed_horizon import MINIMUM_UNITS
from .analysis import Preference, Share, StudyAnalysis
from .clustered import MINIMUM_RATERS
from .questions import QUESTIONS

__all__ = ["as_data", "as_lines", "conclusions"]

SHORT = {question.name: question.short for question in QUESTIONS}
BIASED = 0.01
"""Level at which a liking for one side is worth a word."""


def _pairs(analysis: StudyAnalysis) -> dict[tuple[str, str], list[Preference]]:
    found: dict[tuple[str, str], list[Preference]] = {}
    for preference in analysis.preferences:
        found.setdefault((preference.arm, preference.control), []).append(preference)
    return found


def conclusions(analysis: StudyAnalysis) -> list[dict[str, str]]:
    """For every two arms a decision and a sentence, made from the verdicts alone.

    The decision is `prefer` (the arm on at least one question, and the control on none), `keep` (the other way
    round), `mixed`, or `not enough data`.
    """
    found = []
    for (arm, control), asked in _pairs(analysis).items():
        better = [SHORT[p.question] for p in asked if p.verdict == "arm"]
        worse = [SHORT[p.question] for p in asked if p.verdict == "control"]
        open_ones = [SHORT[p.question] for p in asked if p.verdict in ("undecided", "too few")]
        parts = []
        if better:
            parts.append(f"raters prefer {arm} to {control} for {_listed(better)}")
        if worse:
            parts.append(f"raters prefer {control} to {arm} for {_listed(worse)}")
        if better or worse:
            decision = "mixed" if better and worse else "prefer" if better else "keep"
            if open_ones:
                parts.append(f"not enough data to tell them apart on {_listed(open_ones)}")
            text = "; ".join(parts)
            text = text[0].upper() + text[1:] + "."
        else:
            decision = "not enough data"
            text = f"Not enough {_missing(asked)} to tell {arm} from {control}: {_lacking(asked)}."
        found.append({"arm": arm, "control": control, "decision": decision, "headline": text})
    return found


def _missing(asked: Sequence[Preference]) -> str:
    few = [
        *(["raters"] if min(p.raters for p in asked) < MINIMUM_RATERS else []),
        *(["clips"] if min(p.items for p in asked) < MINIMUM_UNITS else []),
    ]
    return " and ".join(few) or "data"


def _lacking(asked: Sequence[Preference]) -> str:
    raters, items = min(p.raters for p in asked), min(p.items for p in asked)
    if any(p.verdict == "too few" for p in asked):
        return (
            f"{counted(raters, 'rater')} on {counted(items, 'clip')}; at least {MINIMUM_RATERS} raters and "
            f"{MINIMUM_UNITS} clips are needed to speak of people and clips in general"
        )
    return f"the votes of {counted(raters, 'rater')} on {counted(items, 'clip')} fit with no preference at all"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _span(low: float, high: float) -> str:
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def as_lines(analysis: StudyAnalysis) -> Iterator[str]:
    """The analysis for a terminal: conclusions first, then the numbers."""
    for conclusion in conclusions(analysis):
        yield conclusion["headline"]
    whole = sum(done == analysis.comparisons for done in analysis.raters.values())
    yield (
        f"{analysis.study}: {counted(analysis.votes, 'vote')} of {counted(len(analysis.raters), 'rater')}, {whole} of "
        f"whom answered all {analysis.comparisons} comparisons"
    )
    yield ""
    level = f"{100 * (1 - analysis.alpha):g} %"
    rows = [("question", "preferred", "votes", "share", f"exact {level}", "p (Holm)", f"by raters {level}", "p (Holm)")]
    for p in analysis.preferences:
        grouped = p.clustered
        rows.append(
            (
                p.question,
                f"{p.arm} to {p.control}",
                f"{p.share.count} of {p.share.total}",
                _percent(p.share.value),
                _span(p.share.low, p.share.high),
                _p(p.p_adjusted),
                _span(grouped.low, grouped.high) if grouped is not None else "–",
                _p(p.p_clustered_adjusted) if grouped is not None else "–",
            )
        )
    yield from aligned(rows)
    yield ""
    for strengths in analysis.strengths:
        listed = ", ".join(f"{arm} {value:+.2f}" for arm, value in strengths.strengths.items())
        why = " (penalised: an arm won or lost every time)" if strengths.penalised and analysis.votes else ""
        yield f"Bradley–Terry strengths, {strengths.question}: {listed}{why}"
    for agreement in analysis.agreement:
        if agreement.agreeing is None:
            said = "no two raters answered the same comparison"
        else:
            value = "undefined, every answer is the same" if agreement.alpha is None else f"{agreement.alpha:.2f}"
            said = f"Krippendorff's alpha {value}; {_percent(agreement.agreeing)} of pairs of raters agree"
        yield f"agreement, {agreement.question}: {said}"
    left = analysis.left
    yield f"side A chosen in {left.count} of {left.total} votes, {_percent(left.value)} ({_span(left.low, left.high)})"
    for note in _notes(analysis):
        yield f"note: {note}"


def _notes(analysis: StudyAnalysis) -> list[str]:
    found = [
        "The exact interval takes votes as independent, which those of one rater or on one item are not; the one by "
        "raters draws raters and clips anew. A verdict needs both."
    ]
    left = analysis.left
    if left.p < BIASED:
        found.append(
            f"Raters have a habit of choosing the {'left' if left.value > 0.5 else 'right'} side; as sides are "
            "balanced it hides differences but favours no arm."
        )
    return [*found, *analysis.notes]


def _share(share: Share) -> dict[str, Any]:
    return {
        "count": share.count,
        "total": share.total,
        "share": share.value if share.total else None,
        "low": share.low,
        "high": share.high,
        "p": share.p,
    }


def as_data(analysis: StudyAnalysis) -> dict[str, Any]:
    """The analysis, JSON-ready."""
    return {
        "study": analysis.study,
        "arms": list(analysis.arms),
        "control": analysis.control,
        "alpha": analysis.alpha,
        "conclusions": conclusions(analysis),
        "votes": analysis.votes,
        "comparisons_per_rater": analysis.comparisons,
        "comparisons_done": analysis.raters,
        "preferences": [
            {
                "question": p.question,
                "arm": p.arm,
                "control": p.control,
                "raters": p.raters,
                "items": p.items,
                **_share(p.share),
                "p_holm": p.p_adjusted,
                "clustered": asdict(p.clustered) if p.clustered is not None else None,
                "p_clustered_holm": p.p_clustered_adjusted,
                "verdict": p.verdict,
            }
            for p in analysis.preferences
        ],
        "bradley_terry": [asdict(strengths) for strengths in analysis.strengths],
        "agreement": [asdict(agreement) for agreement in analysis.agreement],
        "left": _share(analysis.left),
        "median_seconds": analysis.seconds,
        "notes": _notes(analysis),
    }
