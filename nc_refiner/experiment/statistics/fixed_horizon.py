"""The statistics of a single look: bootstrap intervals and tests over units."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..extras import load
from .confidence_sequences import (
    Band,
    bounded_band,
    difference_band,
    e_values,
    mean_band,
    mixing_scale,
    rate_difference_band,
    running,
)
from .samples import Sample

__all__ = ["MINIMUM_UNITS", "Interval", "band_of", "interval_of", "p_value", "sequential_p"]

MINIMUM_UNITS = 8
"""Fewer units per arm decide nothing: below 6 the Wilcoxon test cannot reach 5 %, and BCa intervals are too short."""
RESAMPLES = 9_999
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

    BCa bootstrap (Efron 1987) over units, with the same resamples every time; for rates the empirical-Bernstein
    bound, since a bootstrap of no event at all is an interval of no width. Infinite with fewer than 2 units.
    """
    if sample.smallest < 2:
        return Interval(-np.inf, np.inf, "none: fewer than 2 units")
    if rate:
        band = band_of(sample, alpha, rate=True)
        return Interval(float(band.low[-1]), float(band.high[-1]), "empirical Bernstein")
    data = (sample.differences,) if sample.paired else (sample.arm, sample.control)
    if all(np.ptp(values) <= 1e-12 * np.abs(values).max() for values in data):
        return Interval(sample.difference, sample.difference, "exact: no variation")
    bootstrap = load("scipy.stats").bootstrap
    small = max(map(len, data)) <= LARGE

    def run(method: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bootstrap(
                data,
                _mean if sample.paired else _mean_difference,
                n_resamples=RESAMPLES if small else 2_000,
                batch=None if small else 50,
                vectorized=True,
                confidence_level=1 - alpha,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval

    if small:
        found = run("BCa")
        if np.isfinite(found.low) and np.isfinite(found.high):
            return Interval(float(found.low), float(found.high), "BCa bootstrap")
    found = run("percentile")
    return Interval(float(found.low), float(found.high), "percentile bootstrap")


def _mean(values: Any, axis: int = -1) -> Any:
    return np.mean(values, axis=axis)


def _mean_difference(arm: Any, control: Any, axis: int = -1) -> Any:
    return np.mean(arm, axis=axis) - np.mean(control, axis=axis)


def p_value(sample: Sample) -> float:
    """Two-sided p of one look: Wilcoxon signed rank for paired differences, Welch's t otherwise; 1 where undefined."""
    stats = load("scipy.stats")
    if sample.smallest < 2:
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sample.paired:
            differences = sample.differences
            p = stats.wilcoxon(differences).pvalue if np.any(differences) else 1.0
        else:
            p = stats.ttest_ind(sample.arm, sample.control, equal_var=False).pvalue
    return float(p) if np.isfinite(p) else 1.0


def band_of(sample: Sample, alpha: float = 0.05, planned: int | None = None, rate: bool = False) -> Band:
    """The always-valid interval after every unit; for rates the bounded one (see `confidence_sequences`).

    `planned`: units for which it is tightest; by default 50 paired, 500 in live traffic.
    """
    if sample.paired:
        if rate:
            return bounded_band(sample.differences, -1.0, 1.0, alpha)
        return mean_band(sample.differences, alpha, planned or 50)
    if rate:
        return rate_difference_band(sample.stream, sample.treated, alpha)
    return difference_band(sample.stream, sample.treated, alpha, planned or 500)


def sequential_p(sample: Sample, alpha: float = 0.05, planned: int | None = None) -> float | None:
    """Always-valid p of paired differences: 1 over the largest evidence so far; None for unpaired samples."""
    if not sample.paired or len(sample.units) < 2:
        return None
    count, mean, variance = running(sample.differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / np.sqrt(variance / count))
    evidence = e_values(count[1:], count[1:] - 1, t[1:], mixing_scale(planned or 50, alpha))
    return float(min(1.0, 1 / evidence.max()))
