"""Where an arm helps and where it harms: the deciding metric by segment, and the units at both ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...evaluation.catalogue import Metric
from .deciding import Verdict, one_look, verdict_of
from .fixed_horizon import Interval, sequence_of
from .holm import holm
from .options import Options
from .samples import Sample

__all__ = ["Extreme", "Segment", "extremes", "segments_of"]

EXTREMES = 5
"""Units listed at either end."""


@dataclass(frozen=True)
class Segment:
    """One arm against the control on the units of one segment.

    Attributes:
        name, by: the segment, and what makes it one: `tag` or `folder`.
        arm, metric, units: what was compared, on how many units.
        control_mean, arm_mean, difference: means over these units; `difference` is arm − control.
        interval: the one that decides: of one look, or always valid.
        test, p: as in `OneLook`. `p_adjusted`: after Holm over all segments and arms.
        verdict: about the arm, on these units alone.
    """

    name: str
    by: str
    arm: str
    metric: Metric
    units: int
    control_mean: float
    arm_mean: float
    difference: float
    interval: Interval
    test: str
    p: float
    p_adjusted: float
    verdict: Verdict


@dataclass(frozen=True)
class Extreme:
    """A unit at one end: the values of both arms, and arm − control."""

    unit: str
    control: float
    arm: float
    difference: float


def segments_of(metric: Metric, options: Options, found: Mapping[str, Sample]) -> tuple[Segment, ...]:
    """Every segment of every arm; none where all units are in one.

    Args:
        metric: that decides.
        options: with the units' segments.
        found: arm → its paired sample on that metric.
    """
    of = options.segments
    named = list(dict.fromkeys(of[unit] for sample in found.values() for unit in sample.units if unit in of))
    if len(named) < 2:
        return ()
    parts = [
        (name, arm, part)
        for arm, sample in found.items()
        if sample.paired
        for name in named
        if len((part := _only(sample, {unit for unit in sample.units if of.get(unit) == name})).units)
    ]
    if not parts:
        return ()
    looks = [one_look(part, options.alpha, metric.rate) for _, _, part in parts]
    adjusted = holm([look.p for look in looks])
    made = []
    for (name, arm, part), look, p in zip(parts, looks, adjusted, strict=True):
        interval, estimate = look.interval, look.estimate
        if options.sequential:
            sequence = sequence_of(part, options.alpha / len(parts), options.planned, metric.rate)
            interval = Interval(float(sequence.low[-1]), float(sequence.high[-1]), "always valid")
            estimate = part.difference
        shown = interval.excludes_zero() and (options.sequential or p < options.alpha)
        smallest = options.smallest_effect.get(metric.name)
        verdict = verdict_of(part, metric, estimate, interval, shown, smallest)
        means = float(part.control.mean()), float(part.arm.mean())
        made.append(
            Segment(name, options.segmented_by, arm, metric, len(part.units), *means, part.difference, interval,
                    look.test, look.p, p, verdict)
        )  # fmt: skip
    return tuple(made)


def _only(sample: Sample, units: set[str]) -> Sample:
    kept = np.array([unit in units for unit in sample.units], bool)
    names = tuple(unit for unit in sample.units if unit in units)
    return Sample(True, names, sample.control[kept], sample.arm[kept], sample.treated[kept])


def extremes(sample: Sample, sign: int) -> tuple[tuple[Extreme, ...], tuple[Extreme, ...]]:
    """The units on which the arm is worst, and best, beside the control: at most `EXTREMES` each, strongest first.

    Args:
        sample: paired; none is given for others.
        sign: of the metric: 1 where more is better, −1 where less is.
    """
    if not sample.paired or not sign:
        return (), ()
    rows: Sequence[Extreme] = [
        Extreme(unit, float(control), float(arm), float(arm - control))
        for unit, control, arm in zip(sample.units, sample.control, sample.arm, strict=True)
    ]
    ranked = sorted(rows, key=lambda row: sign * row.difference)
    worst = tuple(row for row in ranked if sign * row.difference < 0)
    best = tuple(row for row in reversed(ranked) if sign * row.difference > 0)
    return worst[:EXTREMES], best[:EXTREMES]
