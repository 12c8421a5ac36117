"""The report of an A/B test: one HTML file that needs nothing else and asks for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...evaluation.extras import load
from ...files import write_text
from ...pages import Embedded, render
from ..offline.results import Results
from ..statistics.analysis import Analysis
from .examples import examples
from .rows import cumulative, forest_of, pair_row, segment_row, table_row
from .text import footnotes
from .words import Conclusion, conclude, counted, number

__all__ = ["write_report"]

LIMIT_BYTES = 48_000_000
FIRST = 3
"""Cumulative plots shown at once; the others unfold."""


def write_report(analysis: Analysis, path: Path, results: Results | None = None) -> None:
    """Write the report of `analysis`; with `results`, players with the clips where the arms differ most.

    Raises:
        ImportError: Jinja2 is missing.
        ValueError: the file cannot be written.
    """
    load("jinja2")
    embedded = Embedded(LIMIT_BYTES, "its file is in the folder of the run")
    players: list[dict[str, Any]] = []
    arms = []
    for arm in _in_order(analysis):
        found = examples(analysis, arm, results, embedded) if results is not None else None
        if found is not None:
            found["number"] = len(players)
            players.append(found["player"])
        arms.append(_arm(analysis, arm, found))
    conclusions = {c.arm: c for c in conclude(analysis)}
    text = render(
        "ab.html",
        "nc_refiner.experiment.reports",
        players,
        embedded.videos,
        "ab.js",
        embedded.notes,
        analysis=analysis,
        unit=analysis.options.unit,
        conclusions=[(conclusions[arm], _based_on(analysis, conclusions[arm])) for arm in _in_order(analysis)],
        ranking=_ranking(analysis),
        arms=arms,
        segments=_segments(analysis),
        footnotes=list(footnotes(analysis)),
        number=number,
        first=FIRST,
    )
    with write_text(path, text) as file:
        file.commit()


def _in_order(analysis: Analysis) -> list[str]:
    """The arms other than the control: as ranked, where they are."""
    if analysis.ranking is None:
        return analysis.arms
    ranked = [one.arm for one in analysis.ranking.standings if one.arm in analysis.arms]
    return [*ranked, *(arm for arm in analysis.arms if arm not in ranked)]


def _based_on(analysis: Analysis, conclusion: Conclusion) -> str:
    """How much data the verdict rests on."""
    primary, unit = analysis.primary(conclusion.arm), analysis.options.unit
    if primary is None:
        return ""
    sample = primary.sample
    if sample.paired:
        have = f"{counted(len(sample.units), unit)}, each with both arms"
    else:
        have = f"{counted(len(sample.arm), unit)} with {primary.arm}, {len(sample.control)} with {primary.control}"
    ahead = [] if analysis.ranking is None else [s for s in analysis.ranking.standings if s.arm == conclusion.arm]
    better = ", ".join(name for one in ahead for name in one.loses_to if name != primary.control)
    still = f" {better} {'are' if ', ' in better else 'is'} shown to be better still." if better else ""
    return f"{conclusion.arm} against {primary.control}, judged on {have}.{still}"


def _arm(analysis: Analysis, arm: str, found: dict[str, Any] | None) -> dict[str, Any]:
    compared = [c for c in analysis.comparisons if c.arm == arm]
    plots = [(c.metric.title, cumulative(analysis, c)) for c in compared]
    return {
        "name": arm,
        "forest": forest_of(analysis, compared),
        "rows": [table_row(analysis, c) for c in compared],
        "cumulative": [(title, plot) for title, plot in plots if plot],
        "examples": found,
        "worst": analysis.worst(arm),
        "primary": analysis.primary(arm),
    }


def _ranking(analysis: Analysis) -> dict[str, Any] | None:
    """The arms against each other; None where there are only two: the verdict has said it."""
    ranking = analysis.ranking
    if ranking is None or len(ranking.standings) < 3:
        return None
    means = {one.arm: one.mean for one in ranking.standings}
    return {
        "sentence": ranking.sentence,
        "metric": ranking.metric,
        "standings": ranking.standings,
        "pairs": [pair_row(pair, ranking.metric, means.get(pair.other)) for pair in ranking.pairs],
    }


def _segments(analysis: Analysis) -> list[tuple[str, Any]]:
    """Per arm the rows of its segments."""
    arms = dict.fromkeys(segment.arm for segment in analysis.segments)
    return [(arm, [segment_row(analysis, one) for one in analysis.segments if one.arm == arm]) for arm in arms]
