"""Means with intervals over clips; frames of one clip are no independent samples and are never resampled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ...evaluation.extras import needs

__all__ = ["Estimate", "mean_interval", "paired_difference", "per_clip"]

RESAMPLES = 9999
LEVEL = 0.95
Rows = Iterable[dict[str, Any]]
Picks = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Estimate:
    """A mean over clips.

    Attributes:
        mean: of the clips' values.
        low, high: 95 % interval (BCa bootstrap over clips, scipy); None where there is one clip.
        count: clips.
        below, above: clips whose value is under 0 and over 0; for differences: who won.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    below: int
    above: int


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of one value per clip and its interval; the resampling is seeded, so the same values give the same interval.

    Raises:
        ValueError: no value. ImportError: scipy is not installed.
    """
    if not values:
        raise ValueError("no clip has a value: there is nothing to average")
    mean = fmean(values)
    below, above = sum(value < 0 for value in values), sum(value > 0 for value in values)
    if len(values) == 1:
        return Estimate(mean, None, None, 1, below, above)
    if max(values) == min(values):
        return Estimate(mean, mean, mean, len(values), below, above)
    with needs("scipy", "scipy"):
        import numpy as np
        from scipy.stats import bootstrap
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two or three clips scipy says that the distribution is degenerate
        found = bootstrap(
            (np.asarray(values, dtype=float),),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="BCa",
            random_state=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    finite = low == low and high == high
    return Estimate(mean, low if finite else None, high if finite else None, len(values), below, above)


def per_clip(rows: Rows, metric: str, picks: Picks) -> dict[str, float]:
    """Clip → mean of `metric` over the rows that `picks` takes (its seeds); clips without a value are left out."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if picks(row) and row.get(metric) is not None:
            found.setdefault(row["clip"], []).append(float(row[metric]))
    return {clip: fmean(values) for clip, values in found.items()}


def paired_difference(rows: Rows, metric: str, arm: Picks, base: Picks) -> Estimate | None:
    """`arm` minus `base`, clip by clip, with the interval of its mean; None where no clip has both."""
    rows = list(rows)
    ours, theirs = per_clip(rows, metric, arm), per_clip(rows, metric, base)
    shared = [clip for clip in ours if clip in theirs]
    return mean_interval([ours[clip] - theirs[clip] for clip in shared]) if shared else None
