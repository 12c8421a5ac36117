"""How far raters agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...evaluation.extras import load
from .votes import Vote

__all__ = ["Agreement", "agreement_of"]


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's nominal alpha between raters (1 perfect, 0 chance; None if undefined), and the plain share of
    pairs of raters who agree (None if no two answered the same)."""

    question: str
    alpha: float | None
    agreeing: float | None


def agreement_of(votes: Sequence[Vote], question: str) -> Agreement:
    """How far raters who judged the same comparison agree on one question; ImportError without `krippendorff`."""
    cast = [v for v in votes if v.question == question]
    raters = {name: i for i, name in enumerate(sorted({v.rater for v in cast}))}
    units = {key: i for i, key in enumerate(dict.fromkeys((v.pair, v.arms) for v in cast))}
    table = np.full((len(raters), len(units)), np.nan)
    for v in cast:
        names = sorted(v.arms)
        table[raters[v.rater], units[v.pair, v.arms]] = names.index(v.choice)
    first, second = (table == 0).sum(axis=0), (table == 1).sum(axis=0)
    both = first + second
    compared = both >= 2
    together = (both * (both - 1) / 2)[compared].sum()
    if not together:
        return Agreement(question, None, None)
    agreeing = float(((first * (first - 1) + second * (second - 1)) / 2)[compared].sum() / together)
    if not first[compared].any() or not second[compared].any():
        # One answer everywhere: there is no disagreement that chance could have made.
        return Agreement(question, None, agreeing)
    krippendorff = load("krippendorff", "study")
    return Agreement(
        question, float(krippendorff.alpha(table, level_of_measurement="nominal", value_domain=[0, 1])), agreeing
    )
