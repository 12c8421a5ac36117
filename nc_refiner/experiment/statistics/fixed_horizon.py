"""Fixed-horizon statistics: intervals and tests for one look at a number of units that was fixed in advance.

Frames of one clip are no independent samples and are never resampled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ...evaluation.extras import load
from .confidence_sequences import (
    ConfidenceSequence,
    bounded_mean_sequence,
    difference_sequence,
    e_values,
    mean_sequence,
    mixing_scale,
    rate_difference_sequence,
    running,
)
from .samples import Sample

__all__ = [
    "MINIMUM_UNITS",
    "SMALL",
    "Estimate",
    "Interval",
    "interval_of",
    "mean_interval",
    "paired_difference",
    "per_clip",
    "sequence_of",
    "sequential_p",
]

Rows = Iterable[dict[str, Any]]
Picks = Callable[[dict[str, Any]], bool]

MINIMUM_UNITS = 8
"""Fewer units per arm decide nothing: below 6 the Wilcoxon test cannot reach 5 %."""
RESAMPLES = 9_999
SMALL = 50
"""Units from which the bootstrap is used: below, and for skewed values too, t intervals hold the truth more often
(`docs/ab_calibration.md`)."""
LARGE = 2_000
"""Units beyond which BCa and the percentile interval agree and the former only costs time."""


@dataclass(frozen=True)
class Interval:
    """`low` to `high` and how it was found."""

    low: float
    high: float
    method: str

    def excludes_zero(self) -> bool:
        """Whether 0 is outside."""
        return self.low > 0 or self.high < 0


def interval_of(sample: Sample, alpha: float = 0.05, rate: bool = False) -> Interval:
    """Interval of the difference of means at level `alpha`, for one look.

    Student's t, or Welch's for two samples, below `SMALL` units; from there on BCa bootstrap (Efron 1987) over units,
    with the same resamples every time; for rates the empirical-Bernstein
    bound, since a bootstrap of no event at all is an interval of no width. Infinite with fewer than 2 units.
    """
    if sample.smallest < 2:
        return Interval(-np.inf, np.inf, "none: fewer than 2 units")
    if rate:
        sequence = sequence_of(sample, alpha, rate=True)
        return Interval(float(sequence.low[-1]), float(sequence.high[-1]), "empirical Bernstein")
    data = (sample.differences,) if sample.paired else (sample.arm, sample.control)
    if all(np.ptp(values) <= 1e-12 * np.abs(values).max() for values in data):
        return Interval(sample.difference, sample.difference, "exact: no variation")
    return _interval(data, alpha)


def _interval(data: tuple[Any, ...], alpha: float) -> Interval:
    """Of the mean of one row of values, or of the difference of the means of two."""
    stats = load("scipy.stats")
    if min(map(len, data)) < SMALL:
        with warnings.catch_warnings():
            # Values that hardly vary are as well known as they look.
            warnings.simplefilter("ignore", RuntimeWarning)
            test = stats.ttest_1samp(*data, 0.0) if len(data) == 1 else stats.ttest_ind(*data, equal_var=False)
            found = test.confidence_interval(1 - alpha)
        name = "t interval" if len(data) == 1 else "Welch t interval"
        return Interval(float(found.low), float(found.high), name)
    return _bootstrap(data, _mean if len(data) == 1 else _mean_difference, alpha)


def _bootstrap(data: tuple[Any, ...], statistic: Callable[..., Any], alpha: float) -> Interval:
    bootstrap = load("scipy.stats").bootstrap
    small = max(map(len, data)) <= LARGE
    found: Any = None
    for method in ("BCa", "percentile") if small else ("percentile",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = bootstrap(
                data,
                statistic,
                n_resamples=RESAMPLES if small else 2_000,
                batch=None if small else 50,
                vectorized=True,
                confidence_level=1 - alpha,
                method=method,
                random_state=np.random.default_rng(0),
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            break
    return Interval(float(found.low), float(found.high), f"{method} bootstrap")


def _mean(values: Any, axis: int = -1) -> Any:
    return np.mean(values, axis=axis)


def _mean_difference(arm: Any, control: Any, axis: int = -1) -> Any:
    return np.mean(arm, axis=axis) - np.mean(control, axis=axis)


@dataclass(frozen=True)
class Estimate:
    """A mean over clips.

    Attributes:
        mean: of the clips' values.
        low, high: 95 % interval, as `interval_of`; None where there is one clip.
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
    """Mean of one value per clip and its interval; the same values give the same interval.

    Raises:
        ValueError: no value. ImportError: scipy is not installed.
    """
    if not values:
        raise ValueError("no clip has a value: there is nothing to average")
    mean, low, high = fmean(values), None, None
    below, above = sum(value < 0 for value in values), sum(value > 0 for value in values)
    if len(values) > 1:
        found = Interval(mean, mean, "exact")
        if max(values) > min(values):
            found = _interval((np.asarray(values, float),), 0.05)
        low, high = found.low, found.high
    return Estimate(mean, low, high, len(values), below, above)


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


def sequence_of(
    sample: Sample, alpha: float = 0.05, planned: int | None = None, rate: bool = False
) -> ConfidenceSequence:
    """The always-valid interval after every unit; for rates the bounded one (see `confidence_sequences`).

    `planned`: units for which it is tightest; by default 50 paired, 500 in live traffic.
    """
    if sample.paired:
        if rate:
            return bounded_mean_sequence(sample.differences, -1.0, 1.0, alpha)
        return mean_sequence(sample.differences, alpha, planned or 50)
    if rate:
        return rate_difference_sequence(sample.stream, sample.treated, alpha)
    return difference_sequence(sample.stream, sample.treated, alpha, planned or 500)


def sequential_p(sample: Sample, alpha: float = 0.05, planned: int | None = None) -> float | None:
    """Always-valid p of paired differences: 1 over the largest evidence so far; None for unpaired samples."""
    if not sample.paired or len(sample.units) < 2:
        return None
    count, mean, variance = running(sample.differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / np.sqrt(variance / count))
    evidence = e_values(count[1:], count[1:] - 1, t[1:], mixing_scale(planned or 50, alpha))
    return float(min(1.0, 1 / evidence.max()))
