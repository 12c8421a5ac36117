"""Sample-ratio mismatch: whether the arms got the shares of units that they were to get."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...evaluation.extras import load
from .observations import Exposure

__all__ = ["SampleRatio", "check_sample_ratio"]

THRESHOLD = 0.001
"""A mismatch is a fault of the experiment, to be found only where it is certain (Fabijan et al., KDD 2019)."""


@dataclass(frozen=True)
class SampleRatio:
    """How units were shared out.

    Attributes:
        counts: units per arm.
        expected: units per arm that the weights ask for; empty where that is not known.
        p: chi-square p value of a single look; None where it cannot be said.
        p_sequential: always-valid p value, for any number of looks.
        mixed_units: units that were given more than one arm.
        note: why something could not be checked; empty otherwise.
    """

    counts: Mapping[str, int]
    expected: Mapping[str, float]
    p: float | None
    p_sequential: float | None
    mixed_units: int
    note: str = ""

    @property
    def mismatch(self) -> bool:
        """Whether the shares are certainly not those that were asked for."""
        return self.p_sequential is not None and self.p_sequential < THRESHOLD


def check_sample_ratio(exposures: Iterable[Exposure], weights: Mapping[str, float] | None = None) -> SampleRatio:
    """Compare the arms' shares of distinct units with the weights.

    The chi-square test is for one look. The sequential p value is that of the Dirichlet-mixture e-process of Lindon &
    Malek ("Anytime-valid inference for multinomial count data", NeurIPS 2022), which may be looked at all the time.

    Args:
        exposures: of one experiment; a unit counts once, by its first exposure.
        weights: arm → weight; by default those that the exposures name, else equal ones. Where two arms' weights
            changed over time (a ramp), every period is compared with its own.

    Raises:
        ValueError: a weight that is missing or not above 0.
    """
    first: dict[str, Exposure] = {}
    arms_of: dict[str, set[str]] = defaultdict(set)
    for exposure in sorted(exposures, key=lambda exposure: exposure.at):
        first.setdefault(exposure.unit, exposure)
        arms_of[exposure.unit].add(exposure.arm)
    mixed = sum(len(arms) > 1 for arms in arms_of.values())
    counts = dict(sorted(Counter(exposure.arm for exposure in first.values()).items()))
    if weights is not None:
        for arm in counts:
            if not weights.get(arm, 0) > 0:
                raise ValueError(f"arm {arm!r} has units but no weight above 0; give weights for {', '.join(counts)}")
    strata, note = _strata(list(first.values()), weights)
    if not strata or sum(counts.values()) == 0:
        return SampleRatio(counts, {}, None, None, mixed, note or "no exposures were recorded")
    arms = sorted({*counts, *(arm for _, shares in strata for arm in shares)})
    if len(arms) < 2:
        return SampleRatio(counts, {}, None, None, mixed, "only one arm was seen, and no weights say what was to be")
    expected = dict.fromkeys(arms, 0.0)
    statistic, freedom, log_e = 0.0, 0, 0.0
    for seen, shares in strata:
        total = sum(seen.values())
        for arm, share in shares.items():
            expected[arm] += share * total
            statistic += (seen.get(arm, 0) - share * total) ** 2 / (share * total)
        freedom += len(shares) - 1
        log_e += _log_evidence(seen, shares)
    p = float(load("scipy.stats").chi2.sf(statistic, freedom)) if freedom else None
    return SampleRatio(counts, expected, p, min(1.0, math.exp(min(0.0, -log_e))), mixed, note)


Stratum = tuple[Mapping[str, int], Mapping[str, float]]


def _strata(exposures: list[Exposure], weights: Mapping[str, float] | None) -> tuple[list[Stratum], str]:
    """Counts with the shares they were drawn with, one entry per period of constant weights; and a note."""
    counts = Counter(exposure.arm for exposure in exposures)
    named: dict[str, set[float]] = defaultdict(set)
    for exposure in exposures:
        if exposure.weight is not None:
            named[exposure.arm].add(round(exposure.weight, 9))
    if weights is None and any(named.values()):
        if any(exposure.weight is None for exposure in exposures):
            return [], "not checked: some exposures name the weight of their arm and others do not; give weights"
        if max(map(len, named.values())) == 1:
            weights = {arm: next(iter(found)) for arm, found in named.items()}
            if len(weights) == 1 and next(iter(weights.values())) < 1:
                arm, weight = next(iter(weights.items()))
                weights = {arm: weight, "(other arms)": 1 - weight}
        elif len(named) == 2:
            return _ramp(exposures), ""
        else:
            return [], "not checked: the weights of more than two arms changed over time; give weights for one period"
    note = "" if weights else "no weights were recorded; equal ones are assumed"
    shares = dict(weights or dict.fromkeys(counts, 1.0))
    total = sum(shares.values())
    return [(counts, {arm: share / total for arm, share in shares.items()})] if total else [], note


def _ramp(exposures: list[Exposure]) -> list[Stratum]:
    """Of two arms each names the other's share too, so that every setting of a ramp can be told from the others."""
    one, other = sorted({exposure.arm for exposure in exposures})
    periods: dict[float, Counter[str]] = defaultdict(Counter)
    for exposure in exposures:
        weight = exposure.weight or 0.0
        periods[round(weight if exposure.arm == one else 1 - weight, 9)][exposure.arm] += 1
    return [
        (counts, {one: share, other: 1 - share} if 0 < share < 1 else {one if share else other: 1.0})
        for share, counts in sorted(periods.items())
    ]


def _log_evidence(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Log of the Dirichlet-mixture e-value against `shares`; the mixture is centred on them."""
    gammaln = load("scipy.special").gammaln
    prior = 100.0 * np.array(list(shares.values()))
    seen = np.array([counts.get(arm, 0) for arm in shares], float)
    log = gammaln(prior.sum()) - gammaln(prior.sum() + seen.sum()) + (gammaln(prior + seen) - gammaln(prior)).sum()
    return float(log - (seen * np.log(list(shares.values()))).sum())
