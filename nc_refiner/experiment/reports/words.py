"""The analysis in plain words; every sentence is made from the verdicts, so that none can contradict the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..statistics.analysis import Analysis, Comparison
from ..statistics.deciding import NONE
from ..statistics.fixed_horizon import MINIMUM_UNITS
from ..statistics.non_inferiority import GuardrailResult

__all__ = ["WAYS", "Conclusion", "conclude", "counted", "number", "span", "test_of"]

WAYS = {-1: "lower", 1: "higher", 0: "neither"}
"""Sign of a metric → which way it is better, in results."""

Decision = Literal["prefer", "keep", "not enough data", "equivalent", "invalid"]


@dataclass(frozen=True)
class Conclusion:
    """What to do about one arm.

    Attributes:
        arm: its name.
        decision: `prefer` it, `keep` the control, `equivalent`, `not enough data`, or `invalid` (the experiment is
            broken and decides nothing).
        headline: one sentence.
        reasons: one sentence for the deciding metric and one for every guardrail.
        others: one sentence for every other metric.
    """

    arm: str
    decision: Decision
    headline: str
    reasons: tuple[str, ...]
    others: tuple[str, ...]


def number(value: float) -> str:
    """A number with three significant digits, for people."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval, for people."""
    return f"{number(low)} to {number(high)}"


def conclude(analysis: Analysis) -> list[Conclusion]:
    """One conclusion per arm other than the control."""
    return [_conclude(analysis, arm) for arm in analysis.arms]


def _conclude(analysis: Analysis, arm: str) -> Conclusion:
    control, ratio, unit = analysis.options.control, analysis.sample_ratio, analysis.options.unit
    primary = analysis.primary(arm)
    rails = [rail for rail in analysis.guardrails if rail.arm == arm]
    others = [c for c in analysis.comparisons if c.arm == arm and c is not primary]
    reasons = [
        *([_sentence(analysis, primary)] if primary is not None else []),
        *(_rail(rail) for rail in rails),
    ]

    def result(decision: Decision, headline: str) -> Conclusion:
        return Conclusion(arm, decision, headline, tuple(reasons), tuple(_sentence(analysis, c) for c in others))

    if ratio is not None and ratio.mismatch:
        shares = ", ".join(f"{name} {count}" for name, count in ratio.counts.items())
        wanted = ", ".join(f"{name} {count:.0f}" for name, count in ratio.expected.items())
        return result(
            "invalid",
            f"Decide nothing: the arms did not get their shares of units ({shares}; expected {wanted}), so the "
            "comparison is biased. Find the fault first.",
        )
    if primary is None:
        return result("not enough data", f"Not enough data: the deciding metric was not measured for {arm}.")
    name = primary.metric.title
    violated = [rail for rail in rails if rail.verdict == "violated"]
    if violated:
        broken = ", ".join(rail.metric.title for rail in violated)
        return result("keep", f"Keep {control}: {arm} goes beyond the guardrail on {broken}.")
    if primary.verdict == "too few":
        have = primary.sample.smallest
        return result(
            "not enough data",
            f"Not enough {unit}s: {counted(have, unit)} per arm; at least {MINIMUM_UNITS} are needed to say anything.",
        )
    if primary.verdict == "worse":
        return result("keep", f"Keep {control}: {arm} is worse on {name}.")
    if primary.verdict == "equivalent":
        return result("equivalent", f"{arm} and {control} do not differ on {name} by an amount that matters.")
    if primary.verdict != "better":
        between = span(primary.deciding.low, primary.deciding.high)
        why = f"the difference may lie anywhere from {between}"
        if primary.deciding.excludes_zero():
            why = f"the interval {between} excludes 0, the corrected test does not (p {_p(primary.p_adjusted)})"
        return result("not enough data", f"Not enough data to tell {arm} from {control} on {name}: {why}.")
    open_rails = [rail for rail in rails if rail.verdict == "undecided"]
    unmeasured = [metric for metric in analysis.options.guardrails if metric not in {r.metric.name for r in rails}]
    if open_rails or unmeasured:
        which = ", ".join([*(rail.metric.title for rail in open_rails), *unmeasured])
        return result(
            "not enough data",
            f"Not enough data yet: {arm} is better than {control} on {name}, but the guardrail on {which} is not "
            "settled.",
        )
    kept = " and keeps every guardrail" if rails else ""
    return result("prefer", f"Prefer {arm}: it is better than {control} on {name}{kept}.")


def counted(count: int, what: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _sentence(analysis: Analysis, comparison: Comparison) -> str:
    c, options = comparison, analysis.options
    level = f"{100 * (1 - options.alpha):g} %"
    kind = f"{level} always-valid interval" if options.sequential else f"{level} interval"
    if options.sequential and c.sequential.low != c.confidence_sequence.low[-1]:
        kind = "always-valid interval, widened for the number of comparisons,"
    numbers = f"{number(c.difference)} ({kind} {span(c.deciding.low, c.deciding.high)}"
    if not options.sequential:
        numbers += f"; p {_p(c.p_adjusted)}"
    size = c.sample
    unit = options.unit
    count = (
        f"{counted(len(size.units), unit)}, paired"
        if size.paired
        else f"{len(size.arm)} and {len(size.control)} {unit}s"
    )
    numbers += f"; {count})"
    says = {
        "better": "is better",
        "worse": "is worse",
        "different": "differs, which is neither good nor bad in itself",
        "equivalent": "does not differ by an amount that matters",
        "undecided": "is not shown to differ",
        "too few": f"has too few {unit}s to say anything",
    }[c.verdict]
    if c.verdict == "undecided" and c.deciding.excludes_zero():
        says = "is not shown to differ: the interval excludes 0 but the corrected test does not"
    return f"{c.metric.title}: {c.arm} {says}; difference {numbers}."


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _rail(rail: GuardrailResult) -> str:
    limit = f"{rail.limit} the control" if str(rail.limit).endswith("x") else f"{rail.limit} worse than the control"
    says = {"kept": "is kept", "violated": "is violated", "undecided": "is not settled"}[rail.verdict]
    side = "beyond" if rail.excess > 0 else "within"
    return (
        f"Guardrail on {rail.metric.title} (at most {limit}) {says}: {number(abs(rail.excess))} {side} it "
        f"(interval of the excess {span(rail.interval.low, rail.interval.high)})."
    )


def test_of(comparison: Comparison) -> str:
    """A p value with its name and the test it comes from, for a cell of a table."""
    c = comparison
    if c.test == NONE:
        return "no test"
    name = "p (Holm)" if c.corrected else "p, uncorrected,"
    return f"{name} {_p(c.p_adjusted)}, {c.test}"
