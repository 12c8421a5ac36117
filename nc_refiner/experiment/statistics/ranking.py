"""The arms against each other on the deciding metric, the control among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ...evaluation.catalogue import Metric
from .deciding import OneLook, Verdict, verdict_of
from .fixed_horizon import Interval, sequence_of
from .observations import Observation
from .options import Options
from .samples import Sample, samples

__all__ = ["Pairing", "Ranking", "Standing", "between_arms", "rank"]

Pair = tuple[str, str]


@dataclass(frozen=True)
class Pairing:
    """Two arms, `arm` with the better mean.

    Attributes:
        arm, other: their names.
        difference: mean of `arm` − mean of `other`, over the units that have both.
        interval: the one that decides: of one look, or always valid.
        test, p: as in `OneLook`.
        p_adjusted: after Holm, in the same family as every other comparison of the analysis.
        units: how many have both; of the smaller arm where units are given one arm each.
        verdict: about `arm`.
    """

    arm: str
    other: str
    difference: float
    interval: Interval
    test: str
    p: float
    p_adjusted: float
    units: int
    verdict: Verdict


@dataclass(frozen=True)
class Standing:
    """One arm.

    Attributes:
        place: 1 + the number of arms that were shown to be better, or better than one of those: arms that share a
            place are not shown to differ.
        arm, mean, units: its name, its mean over units, how many those are.
        beats, loses_to: arms that it was shown to be better, or worse, than.
    """

    place: int
    arm: str
    mean: float
    units: int
    beats: tuple[str, ...]
    loses_to: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """All arms: `standings` best first, `pairs` every two of them, and `sentence` for people."""

    metric: Metric
    standings: tuple[Standing, ...]
    pairs: tuple[Pairing, ...]
    sentence: str


def between_arms(rows: Sequence[Observation], options: Options, metric: str) -> dict[Pair, Sample]:
    """Per two arms that are not the control their sample on `metric`: the first in the place of the control."""
    mine = [row for row in rows if row.metric == metric and row.arm != options.control]
    found = {}
    for one, other in combinations(dict.fromkeys(row.arm for row in mine), 2):
        two = samples([row for row in mine if row.arm in (one, other)], one)
        found[one, other] = two[metric, other]
    return found


def rank(
    metric: Metric,
    options: Options,
    pairs: Mapping[Pair, tuple[Sample, OneLook, float]],
    family: int,
) -> Ranking | None:
    """The ranking; None where neither more nor less of the metric is better, or no two arms were measured.

    Args:
        metric: that decides.
        options: of the analysis.
        pairs: (first arm, second arm) → their sample, what one look says of it, and its Holm-adjusted p.
        family: number of comparisons that were corrected for.
    """
    if not metric.sign or not pairs:
        return None
    paired = [
        _paired(metric, options, one, other, sample, look, adjusted, family)
        for (one, other), (sample, look, adjusted) in pairs.items()
    ]
    values: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for (one, other), (sample, _, _) in pairs.items():
        for arm, row in ((one, sample.control), (other, sample.arm)):
            if len(row) >= counts.get(arm, 0):
                values[arm], counts[arm] = [float(row.mean()) if len(row) else float("nan")], len(row)
    standings = []
    better = {arm: _above(arm, paired) for arm in values}
    for arm in values:
        beats = tuple(p.other for p in paired if p.arm == arm and p.verdict == "better")
        beats += tuple(p.arm for p in paired if p.other == arm and p.verdict == "worse")
        loses = tuple(p.arm for p in paired if p.other == arm and p.verdict == "better")
        loses += tuple(p.other for p in paired if p.arm == arm and p.verdict == "worse")
        standings.append(Standing(1 + len(better[arm]), arm, values[arm][0], counts[arm], beats, loses))
    standings.sort(key=lambda standing: (standing.place, -metric.sign * standing.mean))
    return Ranking(metric, tuple(standings), tuple(paired), _sentence(metric, standings))


def _above(arm: str, pairs: Sequence[Pairing]) -> set[str]:
    """Arms shown to be better than `arm`, or than one of those."""
    found: set[str] = set()
    new = {arm}
    while new:
        ahead = {p.arm for p in pairs if p.other in new and p.verdict == "better"}
        ahead |= {p.other for p in pairs if p.arm in new and p.verdict == "worse"}
        new = ahead - found - {arm}
        found |= new
    return found


def _paired(
    metric: Metric, options: Options, one: str, other: str, sample: Sample, look: OneLook, adjusted: float, family: int
) -> Pairing:
    """As the main comparisons are decided; turned round where the first of the two is the better."""
    interval = look.interval
    if options.sequential:
        sequence = sequence_of(sample, options.alpha / family, options.planned, metric.rate)
        interval = Interval(float(sequence.low[-1]), float(sequence.high[-1]), "always valid")
    shown = interval.excludes_zero() and (options.sequential or adjusted < options.alpha)
    estimate = sample.difference if options.sequential else look.estimate
    verdict = verdict_of(sample, metric, estimate, interval, shown, options.smallest_effect.get(metric.name))
    difference = sample.difference
    if metric.sign * difference < 0:
        one, other, difference = other, one, -difference
        interval = Interval(-interval.high, -interval.low, interval.method)
        turned: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
        verdict = turned.get(verdict, verdict)
    # `other` is the arm with the better mean now.
    return Pairing(other, one, difference, interval, look.test, look.p, adjusted, sample.smallest, verdict)


def _sentence(metric: Metric, standings: Sequence[Standing]) -> str:
    leader, rest = standings[0], standings[1:]
    beaten = [standing.arm for standing in rest if standing.arm in leader.beats]
    level = [standing.arm for standing in rest if standing.arm not in leader.beats]
    if not beaten:
        every = ", ".join(standing.arm for standing in standings)
        return f"On {metric.title} no arm is shown to be ahead of the others ({every})."
    said = f"On {metric.title} {leader.arm} is ahead of {_listed(beaten)}"
    return f"{said}; it is not told apart from {_listed(level)}." if level else f"{said}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
