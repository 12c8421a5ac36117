"""Which test and which interval decide about one sample, and what they say.

Below `SMALL` units Student's t decides about the mean. It is exact for normal differences, and errs for skewed ones.
So where the differences are found skewed, Wilcoxon's signed-rank test decides instead, with the interval that belongs
to it: it asks which arm is ahead on the typical unit, and one extreme unit cannot tip it. `docs/ab_calibration.md`
has how often either is wrong.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...evaluation.catalogue import Metric
from ...evaluation.extras import load
from .fixed_horizon import MINIMUM_UNITS, SMALL, Interval, interval_of
from .samples import Sample

__all__ = ["NONE", "OneLook", "Verdict", "one_look", "skewed", "verdict_of", "very_skewed"]

Verdict = Literal["better", "worse", "different", "equivalent", "undecided", "too few"]

SKEW_LEVEL = 0.05
"""Level of the test for skew (D'Agostino 1970): of normal samples so many are taken for skewed, which costs nothing."""

PAIRED_T, SIGNED_RANK, WELCH, NONE = "paired t test", "Wilcoxon signed-rank test", "Welch's t test", "none"


@dataclass(frozen=True)
class OneLook:
    """What one look at a sample gives.

    Attributes:
        test: name of the test that gave `p`.
        p: two-sided, uncorrected; 1 where there are fewer than 2 units.
        estimate: the difference that the interval is about: of the means, or where the differences are skewed the
            typical one (Hodges–Lehmann: the median of all means of two).
        interval: of it.
        skewed: whether the differences were found skewed.
    """

    test: str
    p: float
    estimate: float
    interval: Interval
    skewed: bool = False


def skewed(differences: Any) -> bool:
    """Whether differences are so skewed that a test of their mean cannot be trusted at this number of units.

    Never below `MINIMUM_UNITS`, where nothing is decided, nor from `SMALL` on, where the bootstrap interval follows the
    skew by itself.
    """
    if not MINIMUM_UNITS <= len(differences) < SMALL or np.ptp(differences) == 0:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(load("scipy.stats").skewtest(differences).pvalue < SKEW_LEVEL)


def very_skewed(differences: Any) -> bool:
    """Whether differences are so skewed that always-valid intervals do not hold their level, whatever their number."""
    if len(differences) < MINIMUM_UNITS or np.ptp(differences) == 0:
        return False
    stats = load("scipy.stats")
    found = stats.skewtest(differences)
    return bool(found.pvalue < SKEW_LEVEL and abs(stats.skew(differences)) >= 1)


def one_look(sample: Sample, alpha: float = 0.05, rate: bool = False) -> OneLook:
    """Test and interval of one look: paired t, or Wilcoxon's where the differences are skewed; Welch's t unpaired.

    Args:
        sample: the numbers.
        alpha: level of the interval.
        rate: whether the values are shares or 0 and 1, whose interval then is the empirical Bernstein bound.
    """
    stats = load("scipy.stats")
    if sample.smallest < 2:
        return OneLook(NONE, 1.0, sample.difference, interval_of(sample, alpha, rate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not sample.paired:
            p = stats.ttest_ind(sample.arm, sample.control, equal_var=False).pvalue
            return OneLook(WELCH, _known(p), sample.difference, interval_of(sample, alpha, rate))
        differences = sample.differences
        constant = np.ptp(differences) <= 1e-12 * np.abs(differences).max()
        crooked = not rate and not constant and skewed(differences)
        if constant or crooked:
            # Of differences that do not vary t is infinite whatever their number; ranks still count them.
            p = stats.wilcoxon(differences).pvalue if np.any(differences) else 1.0
        else:
            p = stats.ttest_1samp(differences, 0.0).pvalue
    if crooked:
        estimate, interval = _typical(differences, alpha)
        return OneLook(SIGNED_RANK, _known(p), estimate, interval, True)
    test = SIGNED_RANK if constant else PAIRED_T
    return OneLook(test, _known(p), sample.difference, interval_of(sample, alpha, rate))


def _known(p: Any) -> float:
    return float(p) if np.isfinite(p) else 1.0


def _typical(differences: Any, alpha: float) -> tuple[float, Interval]:
    """Hodges–Lehmann estimate and its exact interval: it excludes 0 where the signed-rank test is below `alpha`."""
    count = len(differences)
    first, second = np.triu_indices(count)
    means = np.sort((differences[first] + differences[second]) / 2)
    # How many of the 2ⁿ ways to give out signs have a given sum of positive ranks.
    ways = np.zeros(len(means) + 1)
    ways[0] = 1.0
    for rank in range(1, count + 1):
        ways[rank:] += ways[:-rank].copy()
    tail = np.cumsum(ways) / 2.0**count
    beyond = int(np.searchsorted(tail, alpha / 2, side="right")) - 1
    if beyond < 0:
        return float(np.median(means)), Interval(-np.inf, np.inf, "Hodges–Lehmann interval")
    low, high = float(means[beyond]), float(means[len(means) - 1 - beyond])
    return float(np.median(means)), Interval(low, high, "Hodges–Lehmann interval")


def verdict_of(
    sample: Sample, metric: Metric, estimate: float, deciding: Interval, shown: bool, smallest: float | None = None
) -> Verdict:
    """What is said about an arm.

    Args:
        sample: its numbers.
        metric: which way is better.
        estimate: what the interval is about.
        deciding: the interval that decides.
        shown: whether the deciding test shows a difference.
        smallest: a difference too small to matter; None: any matters.
    """
    if sample.smallest < MINIMUM_UNITS:
        return "too few"
    if smallest is not None and -smallest < deciding.low and deciding.high < smallest:
        return "equivalent"
    # Where typical and mean difference disagree about the better arm, nobody could say which to take.
    if not shown or np.sign(estimate) != np.sign(sample.difference):
        return "undecided"
    if not metric.sign:
        return "different"
    return "better" if (estimate > 0) == (metric.sign > 0) else "worse"
