"""Always-valid intervals: however often one looks, and whenever one stops, the stated level holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "READY",
    "ConfidenceSequence",
    "bounded_mean_sequence",
    "difference_sequence",
    "e_values",
    "mean_sequence",
    "mixing_scale",
    "radius_at",
    "rate_difference_sequence",
    "running",
]

Array = np.ndarray[Any, np.dtype[np.float64]]
READY = 30
"""Units per arm before the sequence for live traffic says anything: sooner, skewed values break its level."""
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class ConfidenceSequence:
    """A confidence sequence: after `count[i]` units the mean is `mean[i]`, the interval `low[i]` to `high[i]`.

    All arrays have one entry per unit. An interval without information is infinite.
    """

    count: Array
    mean: Array
    low: Array
    high: Array

    def __len__(self) -> int:
        return len(self.count)


def mixing_scale(planned: int, alpha: float) -> float:
    """Standard deviation of the effect sizes mixed over; makes the sequence tightest near `planned` units.

    Waudby-Smith et al. (arXiv 2103.06476), eq. 10: ρ² = (−2 ln α + ln(−2 ln α) + 1) / planned. Must be chosen before
    the data are seen.

    Raises:
        ValueError: `planned` below 2 or `alpha` outside (0, 0.5).
    """
    if planned < 2:
        raise ValueError(f"planned is {planned}; it must be at least 2 units")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it must lie in (0, 0.5), usually 0.05")
    log = -2 * math.log(alpha)
    return math.sqrt((log + math.log(log) + 1) / planned)


def _radius_in_errors(count: Array, freedom: Array, alpha: float, scale: float) -> Array:
    """Half width of the sequence in standard errors; infinite while there is too little information."""
    ratio = 1 + count * scale**2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        grown = (np.sqrt(ratio) / alpha) ** (2 / (freedom + 1))
        squared = freedom * (grown - 1) / (1 - grown / ratio)
    usable = (freedom >= 1) & (grown < ratio) & np.isfinite(squared)
    return np.where(usable, np.sqrt(np.where(usable, squared, 0.0)), np.inf)


def radius_at(count: int, freedom: int, alpha: float, planned: int) -> float:
    """Half width of the sequence after `count` units, in standard errors."""
    radius = _radius_in_errors(
        np.array([count], float), np.array([freedom], float), alpha, mixing_scale(planned, alpha)
    )
    return float(radius[0])


def e_values(count: Array, freedom: Array, t: Array, scale: float) -> Array:
    """Evidence against a mean of 0 after each unit: an e-process for the t statistic `t` (see `mean_sequence`)."""
    ratio = 1 + count * scale**2
    freedom = np.maximum(freedom, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.square(t) / freedom
        log = 0.5 * (freedom + 1) * (np.log1p(x) - np.log1p(x / ratio)) - 0.5 * np.log(ratio)
    log = np.where(np.isfinite(x), log, 0.5 * freedom * np.log(ratio))
    return np.exp(np.minimum(log, 700.0))


def running(values: Array) -> tuple[Array, Array, Array]:
    """Count, mean and unbiased variance after each value."""
    count = np.arange(1, len(values) + 1, dtype=np.float64)
    shift = float(values.mean()) if len(values) else 0.0  # against cancellation; the results do not depend on it
    centred = values - shift
    mean = np.cumsum(centred) / count
    squares = np.cumsum(centred**2) - count * mean**2
    epsilon = float(np.finfo(np.float64).eps)
    rounding = count * (8 * epsilon * np.abs(values).max(initial=0.0)) ** 2 + 64 * epsilon * np.cumsum(centred**2)
    squares = np.where(squares > rounding, squares, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(count > 1, squares / (count - 1), np.nan)
    return count, mean + shift, variance


def mean_sequence(values: Array, alpha: float = 0.05, planned: int = 50) -> ConfidenceSequence:
    """Confidence sequence for the mean of independent values, one after the other (paired differences of units).

    The t statistic's Gaussian-mixture martingale, with a right-Haar prior on the scale: exact at every n for normal
    differences (Lai, Ann. Statist. 4, 1976; Wang & Ramdas, "Anytime-valid t-tests and confidence sequences for
    Gaussian means with unknown variance", arXiv 2310.03722). For others it is asymptotic: it is wider than, and
    tends to, the mixture sequence of Waudby-Smith et al. ("Time-uniform central limit theory and asymptotic
    confidence sequences", arXiv 2103.06476). `docs/ab_calibration.md` has what that means for heavy tails.

    Args:
        values: `(n,)` in the order in which they came.
        alpha: level; the sequence misses the mean at any time with at most this probability.
        planned: number of units for which the sequence is tightest; fixed before the data are seen.
    """
    count, mean, variance = running(np.asarray(values, np.float64))
    radius = _radius_in_errors(count, count - 1, alpha, mixing_scale(planned, alpha))
    return _sequence(count, mean, np.sqrt(variance / count), radius)


def _sequence(count: Array, mean: Array, error: Array, radius: Array) -> ConfidenceSequence:
    with np.errstate(invalid="ignore"):
        half = np.where(np.isfinite(radius), radius * error, np.inf)
    known = np.isfinite(half) & np.isfinite(mean)
    return ConfidenceSequence(count, mean, np.where(known, mean - half, -np.inf), np.where(known, mean + half, np.inf))


def difference_sequence(values: Array, treated: Flags, alpha: float = 0.05, planned: int = 500) -> ConfidenceSequence:
    """Confidence sequence for mean(arm) − mean(control) of two independent streams mixed in one order.

    The asymptotic sequence of Waudby-Smith et al. (arXiv 2103.06476, §3) for the difference in means under random
    assignment, whose influence function has the Welch variance; widened as `mean_sequence` is for Welch–Satterthwaite
    degrees of freedom. Asymptotic: nothing is said before both arms have `READY` units.

    Args:
        values: `(n,)` in the order in which they came.
        treated: `(n,)` bool, whether a value is the arm's (True) or the control's.
        alpha, planned: as in `mean_sequence`; `planned` counts the units of both arms together.
    """
    values, treated = np.asarray(values, np.float64), np.asarray(treated, bool)
    total = np.arange(1, len(values) + 1, dtype=np.float64)
    error = np.zeros((2, len(values)))
    freedom_parts = np.zeros(len(values))
    means, counts = np.full((2, len(values)), np.nan), np.zeros((2, len(values)))
    for side, mask in enumerate((~treated, treated)):
        seen = np.cumsum(mask)
        counts[side] = seen
        if not mask.any():
            continue
        count, mean, variance = running(values[mask])
        at = np.maximum(seen - 1, 0)
        means[side] = np.where(seen > 0, mean[at], np.nan)
        error[side] = np.where(seen > 1, variance[at] / count[at], np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom_parts += error[side] ** 2 / (seen - 1)
    squared = error.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(squared > 0, squared**2 / freedom_parts, total - 2)
    ready = counts.min(axis=0) >= READY
    radius = _radius_in_errors(total, np.where(ready, freedom, 0.0), alpha, mixing_scale(planned, alpha))
    with np.errstate(invalid="ignore"):
        return _sequence(total, means[1] - means[0], np.sqrt(squared), radius)


def bounded_mean_sequence(values: Array, low: float, high: float, alpha: float = 0.05) -> ConfidenceSequence:
    """Confidence sequence for the mean of values in [low, high]; holds at every n, without any approximation.

    The predictable plug-in empirical-Bernstein sequence of Waudby-Smith & Ramdas ("Estimating means of bounded
    random variables by betting", JRSS B 86, 2024; arXiv 2010.09686, theorem 2). For rates such as errors, where
    rare events make every method that estimates the variance fail.

    Raises:
        ValueError: a value outside the bounds.
    """
    values = np.asarray(values, np.float64)
    if len(values) and (values.min() < low or values.max() > high):
        raise ValueError(f"values lie in {values.min():g} to {values.max():g}; they must lie in [{low:g}, {high:g}]")
    x = (values - low) / (high - low)
    t = np.arange(1, len(x) + 1, dtype=np.float64)
    mean = (0.5 + np.cumsum(x)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (t + 1)
    before_mean, before_variance = np.concatenate([[0.5], mean[:-1]]), np.concatenate([[0.25], variance[:-1]])
    log = math.log(2 / alpha)
    bet = np.minimum(np.sqrt(2 * log / (before_variance * t * np.log1p(t))), 0.5)
    cost = 4 * (x - before_mean) ** 2 * (-np.log1p(-bet) - bet) / 4
    weight = np.cumsum(bet)
    centre, half = np.cumsum(bet * x) / weight, (log + np.cumsum(cost)) / weight
    span = high - low
    return ConfidenceSequence(
        t,
        np.cumsum(values) / t,
        low + span * np.clip(centre - half, 0, 1),
        low + span * np.clip(centre + half, 0, 1),
    )


def rate_difference_sequence(values: Array, treated: Flags, alpha: float = 0.05) -> ConfidenceSequence:
    """`bounded_mean_sequence` for the difference of two streams of values in [0, 1]: each at half the level."""
    values, treated = np.asarray(values, np.float64), np.asarray(treated, bool)
    sides = []
    for mask in (~treated, treated):
        sequence = bounded_mean_sequence(values[mask], 0.0, 1.0, alpha / 2)
        at = np.cumsum(mask)
        # Before its first value an arm can be anywhere.
        sides.append(
            [
                np.concatenate([[first], part])[at]
                for first, part in ((np.nan, sequence.mean), (0.0, sequence.low), (1.0, sequence.high))
            ]
        )
    (mean0, low0, high0), (mean1, low1, high1) = sides
    return ConfidenceSequence(
        np.arange(1, len(values) + 1, dtype=np.float64), mean1 - mean0, low1 - high0, high1 - low0
    )
