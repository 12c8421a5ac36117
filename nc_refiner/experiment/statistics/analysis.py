"""The decision: every metric compared, corrected for their number, checked, and put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...evaluation.catalogue import Metric, metric_named
from .confidence_sequences import ConfidenceSequence
from .deciding import NONE, OneLook, Verdict, one_look, verdict_of, very_skewed
from .fixed_horizon import Interval, sequence_of, sequential_p
from .holm import holm
from .non_inferiority import GuardrailResult, check_guardrail
from .observations import Exposure, Observation
from .options import Options
from .ranking import Ranking, between_arms, rank
from .sample_ratio import SampleRatio, check_sample_ratio
from .samples import Sample, samples
from .segments import Extreme, Segment, extremes, segments_of

__all__ = ["Analysis", "Comparison", "Options", "Verdict", "analyze"]


@dataclass(frozen=True)
class Comparison:
    """One metric of one arm against the control.

    Attributes:
        metric, arm, control: what is compared.
        sample: the numbers per unit.
        look: test and interval at a fixed horizon: valid for one look at a number of units fixed in advance.
        p_adjusted: `p` after Holm over the family: all metrics with a direction, all arms, and the arms against each
            other; `p` itself for guardrails and metrics without direction, which are in no family.
        corrected: whether it is in the family.
        skewed: whether the differences are so skewed that `note` says something about it.
        confidence_sequence: the always-valid interval after every unit; its last entry holds now.
        sequential: the always-valid interval now, widened for the number of comparisons (Bonferroni).
        deciding: the interval that the verdict was made with: of one look, or `sequential`.
        p_sequential: always-valid p; None for unpaired samples.
        verdict: about the arm. `better`/`worse`: shown at the level asked for; `different`: shown, for a metric without
            direction; `equivalent`: shown to be within the smallest effect that matters; `undecided`: not shown;
            `too few`: fewer than `MINIMUM_UNITS` units.
    """

    metric: Metric
    arm: str
    control: str
    sample: Sample
    look: OneLook
    p_adjusted: float
    corrected: bool
    skewed: bool
    confidence_sequence: ConfidenceSequence
    sequential: Interval
    deciding: Interval
    p_sequential: float | None
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Mean of the arm − mean of the control."""
        return self.sample.difference

    @property
    def estimate(self) -> float:
        """What `deciding` is about: the difference of means, or the typical difference where the rank test decides."""
        return self.look.estimate if self.deciding is self.look.interval else self.difference

    @property
    def interval(self) -> Interval:
        """Of `look.estimate`, for one look."""
        return self.look.interval

    @property
    def p(self) -> float:
        """Of one look, uncorrected."""
        return self.look.p

    @property
    def test(self) -> str:
        """Name of the test that gave `p`."""
        return self.look.test

    @property
    def method(self) -> str:
        """Test and interval that decided, as a phrase."""
        if self.deciding is not self.look.interval:
            return "always-valid interval"
        return self.deciding.method if self.test == NONE else f"{self.test}, {self.deciding.method}"

    @property
    def note(self) -> str:
        """What skew means for this row; empty where there is none."""
        if not self.skewed:
            return ""
        if self.deciding is not self.look.interval:
            return "The differences are skewed: looking again and again errs more often than stated."
        return "The differences are skewed: the rank test decides, about the typical difference and not the mean."


@dataclass(frozen=True)
class Analysis:
    """Everything that was found.

    Attributes:
        experiment: its name.
        options: how it was analysed, `primary` filled in.
        comparisons: per arm and metric, the primary metric first.
        guardrails: one result per arm and guardrail.
        sample_ratio: the sample-ratio check; None for a paired offline run, where every unit is given every arm.
        notes: what a reader must know to read the numbers rightly.
        ranking: the arms against each other on the primary metric; None where that is not measured or undirected.
        segments: the primary metric by segment; empty where there is one segment.
    """

    experiment: str
    options: Options
    comparisons: Sequence[Comparison]
    guardrails: Sequence[GuardrailResult]
    sample_ratio: SampleRatio | None
    notes: Sequence[str]
    ranking: Ranking | None = None
    segments: Sequence[Segment] = ()

    @property
    def fixed(self) -> bool:
        """Whether one look at a number of units that is known to have been fixed in advance decided."""
        return self.options.fixed and not self.options.sequential

    @property
    def arms(self) -> list[str]:
        """The arms other than the control."""
        return list(dict.fromkeys(comparison.arm for comparison in self.comparisons))

    def primary(self, arm: str) -> Comparison | None:
        """The deciding comparison of an arm; None where its metric was not measured."""
        found = (c for c in self.comparisons if c.arm == arm and c.metric.name == self.options.primary)
        return next(found, None)

    def worst(self, arm: str) -> tuple[Extreme, ...]:
        """The units on which `arm` is worse than the control on the primary metric, the worst first; at most five."""
        return self._extremes(arm)[0]

    def best(self, arm: str) -> tuple[Extreme, ...]:
        """The units on which `arm` is better than the control on the primary metric, the best first; at most five."""
        return self._extremes(arm)[1]

    def _extremes(self, arm: str) -> tuple[tuple[Extreme, ...], tuple[Extreme, ...]]:
        found = self.primary(arm)
        return extremes(found.sample, found.metric.sign) if found is not None else ((), ())


def analyze(
    observations: Iterable[Observation],
    options: Options,
    exposures: Iterable[Exposure] | None = None,
    notes: Iterable[str] = (),
) -> Analysis:
    """Compare every arm with the control on every metric.

    Fixed horizon (`sequential=False`): a difference is shown if the Holm-adjusted p of the test that `one_look` chose
    is below `alpha` and its interval excludes 0. Many looks: if the always-valid interval at `alpha` divided by the
    number of comparisons excludes 0.

    Args:
        observations: of one experiment.
        options: how.
        exposures: for the sample-ratio check; None where arms are not shared out by chance.
        notes: passed on to the result.

    Raises:
        ValueError: no observations, of several experiments, no control, or no other arm.
        ImportError: scipy is missing.
    """
    rows = list(observations)
    experiment = _experiment(rows, options)
    found = samples(rows, options.control)
    metrics = {name: metric_named(name, options.better.get(name)) for name, _ in found}
    primary = options.primary or next((name for name, metric in metrics.items() if metric.sign), None)
    options = replace(options, primary=primary)
    ordered = sorted(found, key=lambda key: (key[1], key[0] != primary))
    family = [key for key in ordered if metrics[key[0]].sign and key[0] not in options.guardrails]
    if primary is not None:
        family += [key for key in ordered if key[0] == primary and key not in family]
    looks = {key: one_look(found[key], options.alpha, metrics[key[0]].rate) for key in ordered}
    ranked = metrics[primary] if primary in metrics and metrics[primary].sign else None
    others = between_arms(rows, options, ranked.name) if ranked is not None else {}
    beside = {pair: one_look(sample, options.alpha, ranked.rate) for pair, sample in others.items() if ranked}
    corrected = holm([*(looks[key].p for key in family), *(look.p for look in beside.values())])
    size = max(1, len(corrected))
    adjusted = dict(zip(family, corrected[: len(family)], strict=True))
    comparisons = [
        _compare(found[key], metrics[key[0]], key[1], options, looks[key], adjusted.get(key), size) for key in ordered
    ]
    guardrails = [
        check_guardrail(
            found[metric, arm], metrics[metric], arm, limit, options.alpha, options.sequential, options.planned
        )
        for arm in dict.fromkeys(arm for _, arm in found)
        for metric, limit in options.guardrails.items()
        if (metric, arm) in found
    ]
    ratio = check_sample_ratio(exposures, options.weights) if exposures is not None else None
    said = [*notes, *_notes(found, options, comparisons)]
    if ranked is None:
        return Analysis(experiment, options, comparisons, guardrails, ratio, said)
    mine = {key[1]: key for key in ordered if key[0] == primary}
    pairs = {(options.control, arm): (found[key], looks[key], adjusted[key]) for arm, key in mine.items()}
    pairs |= {pair: (others[pair], beside[pair], p) for pair, p in zip(others, corrected[len(family) :], strict=True)}
    ranking = rank(ranked, options, pairs, size)
    parts = segments_of(ranked, options, {arm: found[key] for arm, key in mine.items()})
    return Analysis(experiment, options, comparisons, guardrails, ratio, said, ranking, parts)


def _experiment(rows: list[Observation], options: Options) -> str:
    names = sorted({row.experiment for row in rows})
    if not names:
        raise ValueError("nothing was measured yet; there is nothing to analyse")
    if len(names) > 1:
        raise ValueError(f"observations of {len(names)} experiments ({', '.join(names)}); analyse one at a time")
    arms = sorted({row.arm for row in rows})
    if options.control not in arms:
        raise ValueError(f"the control {options.control!r} has no observation; arms that have: {', '.join(arms)}")
    if len(arms) == 1:
        raise ValueError(f"only the control {options.control!r} has observations; there is nothing to compare it with")
    return names[0]


def _compare(
    sample: Sample, metric: Metric, arm: str, options: Options, look: OneLook, adjusted: float | None, family: int
) -> Comparison:
    """One row; `adjusted` is None for what is in no family of comparisons."""
    corrected = adjusted is not None
    p = look.p if adjusted is None else adjusted
    level = options.alpha / family if corrected else options.alpha
    sequence = sequence_of(sample, options.alpha, options.planned, metric.rate)
    wide = sequence_of(sample, level, options.planned, metric.rate) if level < options.alpha else sequence
    sequential = Interval(float(wide.low[-1]), float(wide.high[-1]), "always valid")
    deciding = sequential if options.sequential else look.interval
    shown = deciding.excludes_zero() and (options.sequential or p < options.alpha)
    estimate = sample.difference if options.sequential else look.estimate
    return Comparison(
        metric,
        arm,
        options.control,
        sample,
        look,
        p,
        corrected,
        look.skewed or (options.sequential and sample.paired and very_skewed(sample.differences)),
        sequence,
        sequential,
        deciding,
        sequential_p(sample, options.alpha, options.planned) if not metric.rate else None,
        verdict_of(sample, metric, estimate, deciding, shown, options.smallest_effect.get(metric.name)),
    )


def _notes(found: Mapping[tuple[str, str], Sample], options: Options, comparisons: Sequence[Comparison]) -> list[str]:
    said = []
    crooked = list(dict.fromkeys(c.metric.title for c in comparisons if c.skewed))
    if crooked and options.sequential:
        said.append(
            f"The differences in {', '.join(crooked)} are skewed: always-valid intervals then err more often than "
            f"stated. Fix the number of {options.unit}s, and look once (--one-look)."
        )
    elif crooked:
        said.append(
            f"The differences in {', '.join(crooked)} are skewed, and a mean of so few {options.unit}s cannot be "
            f"trusted then. Wilcoxon's rank test decides there: which arm is ahead on the typical {options.unit}."
        )
    for (metric, arm), sample in found.items():
        if sample.dropped:
            one = sample.dropped == 1
            why = ("lacks" if one else "lack") + " one of the arms"
            if not sample.paired:
                why = ("was" if one else "were") + " given both arms"
            which = f"1 {options.unit} that {why} is" if one else f"{sample.dropped} {options.unit}s that {why} are"
            said.append(f"{metric}, {arm}: {which} left out.")
    missing = [metric for metric in options.guardrails if metric not in {name for name, _ in found}]
    if missing:
        said.append(f"Guardrails that were not measured: {', '.join(missing)}.")
    return said
