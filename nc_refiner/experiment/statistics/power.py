"""How many units an experiment needs, or what a number of units can show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ...evaluation.extras import load
from .confidence_sequences import READY, radius_at
from .fixed_horizon import MINIMUM_UNITS

__all__ = ["Plan", "PlanReport", "plan"]

MOST = 10_000_000


@dataclass(frozen=True)
class Plan:
    """What was planned.

    Attributes:
        effect, sd: of the difference (paired) or of the values (unpaired), in the metric's unit.
        alpha, power: level, and probability of showing the effect.
        units: units needed (per arm where unpaired); or the number asked about.
        paired, sequential: the design.
    """

    effect: float
    sd: float
    alpha: float
    power: float
    units: int
    paired: bool
    sequential: bool


def plan(
    effect: float,
    sd: float,
    *,
    power: float | None = 0.8,
    units: int | None = None,
    alpha: float = 0.05,
    paired: bool = True,
    sequential: bool = False,
) -> Plan:
    """The units needed for `power`, never fewer than the analysis decides with; or, with `units`, the power they give.

    Fixed horizon: the power of the t test that decides (statsmodels). Sequential: the probability that the always-valid
    interval excludes 0 at that number of units, planned for it; stopping earlier is possible, so the true power is a
    little higher. Both hold for normal values; `docs/ab_calibration.md` has them beside simulated experiments.

    Args:
        effect: the true difference, not 0.
        sd: standard deviation over units, > 0.
        power: in (alpha, 1); ignored with `units`.
        units: at least 2; per arm where unpaired.
        alpha: level; divide it by the number of comparisons to allow for their correction.
        paired: whether every unit is given both arms.
        sequential: whether always-valid intervals decide.

    Raises:
        ValueError: out of range, or more than 10 million units.
    """
    if not (math.isfinite(effect) and effect != 0):
        raise ValueError(f"effect is {effect}; it must be a number other than 0")
    if not (math.isfinite(sd) and sd > 0):
        raise ValueError(f"sd is {sd}; it must be above 0")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it must lie in (0, 0.5)")
    size = abs(effect) / sd

    def reached(count: int) -> float:
        if sequential:
            return _sequential_power(size, count, alpha, paired)
        return _fixed_horizon_power(size, count, alpha, paired)

    if units is not None:
        if units < 2:
            raise ValueError(f"units is {units}; it must be at least 2")
        # With fewer units than that the analysis says nothing, whatever the effect.
        found = reached(units) if units >= MINIMUM_UNITS else 0.0
        return Plan(effect, sd, alpha, found, units, paired, sequential)
    if power is None or not alpha < power < 1:
        raise ValueError(f"power is {power}; it must lie between alpha ({alpha:g}) and 1, usually 0.8")
    low, high = MINIMUM_UNITS - 1, MINIMUM_UNITS
    while reached(high) < power:
        low, high = high, high * 2
        if high > MOST:
            raise ValueError(f"an effect of {effect:g} with sd {sd:g} needs more than {MOST:,} units")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return Plan(effect, sd, alpha, reached(high), high, paired, sequential)


def _fixed_horizon_power(size: float, count: int, alpha: float, paired: bool) -> float:
    tests, stats = load("statsmodels.stats.power"), load("scipy.stats")
    if paired:
        found, freedom = float(tests.TTestPower().power(size, count, alpha)), count - 1
    else:
        found, freedom = float(tests.TTestIndPower().power(size, count, alpha, ratio=1.0)), 2 * count - 2
    if math.isnan(found):
        # statsmodels adds the wrong side's probability, which has no number where it is next to nothing.
        found = float(stats.nct.sf(stats.t.isf(alpha / 2, freedom), freedom, size * _root(count, paired)))
    return found


def _root(count: int, paired: bool) -> float:
    """How many times larger the mean's effect is in standard errors than in standard deviations."""
    return math.sqrt(count if paired else count / 2)


def _sequential_power(size: float, count: int, alpha: float, paired: bool) -> float:
    if not paired and count < READY:
        return 0.0
    total = count if paired else 2 * count
    freedom = total - 1 if paired else total - 2
    needed = radius_at(total, freedom, alpha, planned=max(2, total))
    if not math.isfinite(needed):
        return 0.0
    shift = size * _root(count, paired)
    # Of normal values the mean in standard errors is noncentral t; its wrong side has next to no probability.
    return float(load("scipy.stats").nct.sf(needed, freedom, shift))


@dataclass(frozen=True)
class PlanReport:
    """`plan`; with a pilot also `cautious`, the plan at the 80 % upper bound of its spread, and notes."""

    plan: Plan
    asked_units: bool
    cautious: Plan | None
    notes: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """JSON-ready."""
        cautious = asdict(self.cautious) if self.cautious is not None else None
        return {**asdict(self.plan), "cautious": cautious, "notes": list(self.notes)}

    def lines(self) -> Iterator[str]:
        """For people."""
        p = self.plan
        what = "units" if p.paired else "units per arm"
        test = "paired t test" if p.paired else "Welch's t test"
        how = "decided by always-valid intervals" if p.sequential else f"one look, {test}"
        least = READY if p.sequential and not p.paired else MINIMUM_UNITS
        if self.asked_units and p.units < least:
            yield f"{p.units} {what} decide nothing, whatever the effect: the analysis needs at least {least}."
        elif self.asked_units:
            yield f"{p.units} {what} show an effect of {p.effect:.3g} (sd {p.sd:.3g}) with power {p.power:.0%}, {how}."
        else:
            yield f"{p.units} {what} are needed to show an effect of {p.effect:.3g} (sd {p.sd:.3g}), {how}."
            yield f"Power there: {p.power:.1%} at level {p.alpha:.3g}."
        if self.cautious is not None:
            c = self.cautious
            bound = f"were the sd {c.sd:.3g}, its 80 % upper bound"
            yield f"{bound}: power {c.power:.0%}" if self.asked_units else f"{bound}: {c.units} {what}"
        if p.sequential and p.units >= least:
            total = p.units if p.paired else 2 * p.units
            yield f"Give ab analyze --planned {total}: the intervals are then tightest there."
        yield from self.notes
