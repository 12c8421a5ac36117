"""The decision: every metric compared, corrected for their number, checked, and put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ...evaluation.catalogue import Better, Metric, metric_named
from ...evaluation.extras import load
from .confidence_sequences import ConfidenceSequence
from .fixed_horizon import MINIMUM_UNITS, Interval, interval_of, p_value, sequence_of, sequential_p
from .non_inferiority import GuardrailResult, check_guardrail
from .observations import Exposure, Observation
from .sample_ratio import SampleRatio, check_sample_ratio
from .samples import Sample, samples

__all__ = ["Analysis", "Comparison", "Options", "Verdict", "analyze"]

Verdict = Literal["better", "worse", "different", "equivalent", "undecided", "too few"]


@dataclass(frozen=True)
class Options:
    """How to analyse.

    Attributes:
        control: the arm that the others are compared with.
        primary: the metric that decides; None: the first with a direction.
        guardrails: metric → limit, as in the experiment's file.
        alpha: level of every interval and test.
        sequential: decide by always-valid intervals, so that looking before the end is safe; False where the number
            of units was fixed in advance and is reached.
        planned: units for which sequential intervals are tightest; None: 50 paired, 500 in live traffic.
        better: metric → direction, for metrics the package does not know, or against its opinion.
        smallest_effect: metric → a difference too small to matter: an interval within it means "equivalent".
        weights: arm → weight, for the sample-ratio check.
        unit: what a unit is called: a `clip`, a `user`, …
    """

    control: str
    primary: str | None = None
    guardrails: Mapping[str, str | float] = field(default_factory=dict)
    alpha: float = 0.05
    sequential: bool = False
    planned: int | None = None
    better: Mapping[str, Better] = field(default_factory=dict)
    smallest_effect: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    unit: str = "unit"


@dataclass(frozen=True)
class Comparison:
    """One metric of one arm against the control.

    Attributes:
        metric, arm, control: what is compared.
        sample: the numbers per unit.
        interval: of the difference, at a fixed horizon: valid for one look at a number of units fixed in advance.
        p: at a fixed horizon; `p_adjusted`: after Holm over all metrics with a direction and all arms.
        confidence_sequence: the always-valid interval after every unit; its last entry holds now.
        sequential: the always-valid interval now, widened for the number of comparisons (Bonferroni).
        deciding: the one of the two that the verdict was made with.
        p_sequential: always-valid p; None for unpaired samples.
        verdict: about the arm. `better`/`worse`: shown at the level asked for; `different`: shown, for a metric without
            direction; `equivalent`: shown to be within the smallest effect that matters; `undecided`: not shown;
            `too few`: fewer than `MINIMUM_UNITS` units.
    """

    metric: Metric
    arm: str
    control: str
    sample: Sample
    interval: Interval
    p: float
    p_adjusted: float
    confidence_sequence: ConfidenceSequence
    sequential: Interval
    deciding: Interval
    p_sequential: float | None
    verdict: Verdict

    @property
    def difference(self) -> float:
        """Mean of the arm − mean of the control."""
        return self.sample.difference


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
    """

    experiment: str
    options: Options
    comparisons: Sequence[Comparison]
    guardrails: Sequence[GuardrailResult]
    sample_ratio: SampleRatio | None
    notes: Sequence[str]

    @property
    def arms(self) -> list[str]:
        """The arms other than the control."""
        return list(dict.fromkeys(comparison.arm for comparison in self.comparisons))

    def primary(self, arm: str) -> Comparison | None:
        """The deciding comparison of an arm; None where its metric was not measured."""
        found = (c for c in self.comparisons if c.arm == arm and c.metric.name == self.options.primary)
        return next(found, None)


def analyze(
    observations: Iterable[Observation],
    options: Options,
    exposures: Iterable[Exposure] | None = None,
    notes: Iterable[str] = (),
) -> Analysis:
    """Compare every arm with the control on every metric.

    Fixed horizon (`sequential=False`): a difference is shown if its Holm-adjusted p is below `alpha` and the bootstrap
    interval excludes 0 on the same side. Many looks: if the always-valid interval at `alpha` divided by the number of
    comparisons excludes 0.

    Args:
        observations: of one experiment.
        options: how.
        exposures: for the sample-ratio check; None where arms are not shared out by chance.
        notes: passed on to the result.

    Raises:
        ValueError: no observations, of several experiments, no control, or no other arm.
        ImportError: scipy or statsmodels is missing.
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
    raw = {key: p_value(found[key]) for key in ordered}
    adjusted = dict(raw)
    if family:
        corrected = load("statsmodels.stats.multitest").multipletests([raw[key] for key in family], method="holm")[1]
        adjusted |= {key: float(p) for key, p in zip(family, corrected, strict=True)}
    comparisons = [
        _compare(
            found[key], metrics[key[0]], key[1], options, raw[key], adjusted[key], len(family) if key in family else 1
        )
        for key in ordered
    ]
    guardrails = [
        check_guardrail(
            found[metric, arm], metrics[metric], arm, limit, options.alpha, options.sequential, options.planned
        )
        for arm in dict.fromkeys(arm for _, arm in found)
        for metric, limit in options.guardrails.items()
        if (metric, arm) in found
    ]
    said = [*notes, *_notes(found, options)]
    ratio = check_sample_ratio(exposures, options.weights) if exposures is not None else None
    return Analysis(experiment, options, comparisons, guardrails, ratio, said)


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
    sample: Sample, metric: Metric, arm: str, options: Options, p: float, adjusted: float, family: int
) -> Comparison:
    interval = interval_of(sample, options.alpha, metric.rate)
    sequence = sequence_of(sample, options.alpha, options.planned, metric.rate)
    wide = sequence_of(sample, options.alpha / family, options.planned, metric.rate) if family > 1 else sequence
    sequential = Interval(float(wide.low[-1]), float(wide.high[-1]), "always valid")
    deciding = sequential if options.sequential else interval
    shown = deciding.excludes_zero() and (options.sequential or adjusted < options.alpha)
    return Comparison(
        metric,
        arm,
        options.control,
        sample,
        interval,
        p,
        adjusted,
        sequence,
        sequential,
        deciding,
        sequential_p(sample, options.alpha, options.planned) if not metric.rate else None,
        _verdict(sample, metric, deciding, shown, options.smallest_effect.get(metric.name)),
    )


def _verdict(sample: Sample, metric: Metric, deciding: Interval, shown: bool, smallest: float | None) -> Verdict:
    if sample.smallest < MINIMUM_UNITS:
        return "too few"
    if smallest is not None and -smallest < deciding.low and deciding.high < smallest:
        return "equivalent"
    if not shown or np.sign(sample.difference) != np.sign(deciding.low + deciding.high):
        return "undecided"
    if not metric.sign:
        return "different"
    return "better" if (sample.difference > 0) == (metric.sign > 0) else "worse"


def _notes(found: Mapping[tuple[str, str], Sample], options: Options) -> list[str]:
    said = []
    for (metric, arm), sample in found.items():
        if sample.dropped:
            why = "lack one of the arms" if sample.paired else "were given both arms"
            said.append(f"{metric}, {arm}: {sample.dropped} {options.unit}s are left out because they {why}")
    missing = [metric for metric in options.guardrails if metric not in {name for name, _ in found}]
    if missing:
        said.append(f"guardrails that were not measured: {', '.join(missing)}")
    return said
