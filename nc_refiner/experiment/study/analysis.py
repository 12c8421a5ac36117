"""What votes show: exact shares, intervals that know about raters, strengths, agreement, a liking for one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from ...evaluation.extras import load
from ..statistics.fixed_horizon import MINIMUM_UNITS
from .agreement import Agreement, agreement_of
from .clustered import MINIMUM_RATERS, Clustered, clustered
from .questions import QUESTIONS
from .votes import Study, Vote

__all__ = ["Preference", "Share", "Strengths", "StudyAnalysis", "analyze_votes", "share_of"]

PENALTY = 0.1
"""Of squared Bradley–Terry strengths, where without one they would be infinite."""

Verdict = Literal["arm", "control", "undecided", "too few"]


@dataclass(frozen=True)
class Share:
    """`count` of `total`, the exact (Clopper–Pearson) interval, and the p of one half (exact binomial, two-sided)."""

    count: int
    total: int
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.count / self.total if self.total else float("nan")


@dataclass(frozen=True)
class Preference:
    """One question about one arm against another.

    Attributes:
        question: its name. arm, control: which.
        share: of votes for the arm, as if all were independent.
        p_adjusted: of that share, after Holm over all questions and pairs of arms.
        clustered: the same share with raters and clips drawn anew; None with too few of either.
        p_clustered_adjusted: its p after Holm; 1 where there is none.
        raters, items: how many there are behind it; pieces of one clip are one item.
        verdict: which of the two is preferred: both p are below the level. `too few`: fewer than `MINIMUM_RATERS`
            raters or `MINIMUM_UNITS` items.
    """

    question: str
    arm: str
    control: str
    share: Share
    p_adjusted: float
    clustered: Clustered | None
    p_clustered_adjusted: float
    raters: int
    items: int
    verdict: Verdict


@dataclass(frozen=True)
class Strengths:
    """Bradley–Terry: arm → strength, in log-odds with mean 0; `penalised` where an arm won or lost everything."""

    question: str
    strengths: dict[str, float]
    penalised: bool


@dataclass(frozen=True)
class StudyAnalysis:
    """Everything about one study.

    Attributes:
        study: its name. arms, control: as in the study. alpha: level of tests and intervals.
        comparisons: planned per rater; raters: name → how many of them are answered in full.
        votes: how many. preferences, strengths, agreement: as above.
        left: share of votes for the side labelled A, whatever was there.
        seconds: median from shown to answered; None without votes.
        notes: what else a reader should know.
    """

    study: str
    arms: tuple[str, ...]
    control: str
    alpha: float
    comparisons: int
    raters: dict[str, int]
    votes: int
    preferences: list[Preference]
    strengths: list[Strengths]
    agreement: list[Agreement]
    left: Share
    seconds: float | None
    notes: list[str]


def share_of(count: int, total: int, alpha: float = 0.05) -> Share:
    """`count` of `total` with its exact interval and test; without votes 0 to 1 and p = 1.

    >>> found = share_of(9, 10)
    >>> round(found.p, 6), round(found.low, 4), round(found.high, 4)
    (0.021484, 0.555, 0.9975)
    """
    if not total:
        return Share(0, 0, 0.0, 1.0, 1.0)
    test = load("scipy.stats").binomtest(count, total)
    interval = test.proportion_ci(1 - alpha, method="exact")
    return Share(count, total, float(interval.low), float(interval.high), float(test.pvalue))


def analyze_votes(
    study: Study, votes: Sequence[Vote], control: str | None = None, alpha: float = 0.05
) -> StudyAnalysis:
    """Analyse all votes there are so far.

    Args:
        study: the study.
        votes: its votes.
        control: arm that shares are stated against; by default the study's.
        alpha: level, in (0, 0.5).

    Raises:
        ValueError: there is no such control. ImportError: a package of the `study` extra is missing.
    """
    control = control or study.control
    if control not in study.arms:
        raise ValueError(f"--control {control!r} is no arm of the study; its arms are {', '.join(study.arms)}")
    ordered = [control, *(arm for arm in study.arms if arm != control)]
    pairs = [(arm, other) for other, arm in combinations(ordered, 2)]
    return StudyAnalysis(
        study=study.name,
        arms=study.arms,
        control=control,
        alpha=alpha,
        comparisons=study.comparisons,
        raters=_finished(votes),
        votes=len(votes),
        preferences=_preferences(votes, pairs, alpha),
        strengths=[_strengths(votes, question.name, study.arms) for question in QUESTIONS],
        agreement=[agreement_of(votes, question.name) for question in QUESTIONS],
        left=share_of(sum(vote.choice == vote.left_arm for vote in votes), len(votes), alpha),
        seconds=float(np.median([vote.seconds for vote in votes])) if votes else None,
        notes=_notes(votes),
    )


def _finished(votes: Sequence[Vote]) -> dict[str, int]:
    answered: dict[str, dict[tuple[str, frozenset[str]], set[str]]] = {}
    for vote in votes:
        answered.setdefault(vote.rater, {}).setdefault((vote.pair, vote.arms), set()).add(vote.question)
    return {
        rater: sum(len(questions) == len(QUESTIONS) for questions in seen.values())
        for rater, seen in sorted(answered.items())
    }


def _preferences(votes: Sequence[Vote], pairs: list[tuple[str, str]], alpha: float) -> list[Preference]:
    keys = [(question.name, arm, control) for arm, control in pairs for question in QUESTIONS]
    cells = {
        (question, arm, control): [v for v in votes if v.question == question and v.arms == {arm, control}]
        for question, arm, control in keys
    }
    shares = {key: share_of(sum(v.choice == key[1] for v in cell), len(cell), alpha) for key, cell in cells.items()}
    drawn = {
        key: clustered([(v.rater, v.source, v.choice == key[1]) for v in cell], 1 - alpha)
        for key, cell in cells.items()
    }
    p_plain = _holm([shares[key].p for key in keys])
    p_drawn = _holm([found.p if (found := drawn[key]) is not None else 1.0 for key in keys])
    result = []
    for key, plain, grouped in zip(keys, p_plain, p_drawn, strict=True):
        cell, share = cells[key], shares[key]
        raters, items = len({v.rater for v in cell}), len({v.source for v in cell})
        verdict: Verdict = "undecided"
        if raters < MINIMUM_RATERS or items < MINIMUM_UNITS:
            verdict = "too few"
        elif max(plain, grouped) < alpha:
            verdict = "arm" if share.value > 0.5 else "control"
        result.append(Preference(*key, share, plain, drawn[key], grouped, raters, items, verdict))
    return result


def _holm(p: list[float]) -> list[float]:
    return [float(value) for value in load("statsmodels.stats.multitest").multipletests(p, method="holm")[1]]


def _strengths(votes: Sequence[Vote], question: str, arms: tuple[str, ...]) -> Strengths:
    index = {arm: i for i, arm in enumerate(arms)}
    won = [
        (index[v.choice], index[v.right_arm if v.choice == v.left_arm else v.left_arm])
        for v in votes
        if v.question == question
    ]
    beats = np.zeros((len(arms), len(arms)))
    for winner, loser in won:
        beats[winner, loser] = 1
    # Ford 1957: finite strengths exist if and only if every arm beats every other, if need be through third ones.
    parts = load("scipy.sparse.csgraph").connected_components(beats, connection="strong", return_labels=False)
    choix = load("choix", "study")
    if not won:
        found = np.zeros(len(arms))
    elif parts == 1:
        found = choix.ilsr_pairwise(len(arms), won, max_iter=1000)
    else:
        found = choix.opt_pairwise(len(arms), won, alpha=PENALTY)
    found = np.asarray(found) - np.mean(found)
    return Strengths(question, {arm: float(found[i]) for arm, i in index.items()}, parts != 1)


def _notes(votes: Sequence[Vote]) -> list[str]:
    items, clips = {v.pair for v in votes}, {v.source for v in votes}
    if 0 < len(clips) < len(items):
        count = f"{len(clips)} clip{'s' if len(clips) > 1 else ''}"
        return [f"The {len(items)} items are pieces of {count}; what is independent of each other is the clips."]
    return []
