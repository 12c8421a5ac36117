"""The analysis in plain words; every sentence is made from the verdicts, so that none can contradict the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ...naming import counted
from ..statistics.analysis import Analysis, Comparison
from ..statistics.deciding import NONE
from ..statistics.fixed_horizon import MINIMUM_UNITS
from ..statistics.non_inferiority import GuardrailResult

__all__ = ["WAYS", "Conclusion", "conclude", "counted", "number", "rail_sentence", "span", "test_of"]

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
    text = f"{value:.3g}"
    if "e-" in text and abs(value) >= 1e-7:
        # Zeros are read more easily than powers of ten.
        text = f"{Decimal(text):f}"
    return text.replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval, for people; a dash where nothing is known."""
    if math.isinf(low) and math.isinf(high):
        return "–"
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
        *(rail_sentence(rail, analysis) for rail in rails),
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
    # Where the rank test decided, nothing was shown of the mean.
    typical = f" for the typical {unit}" if primary.skewed and not analysis.options.sequential else ""
    violated = [rail for rail in rails if rail.verdict == "violated"]
    if violated:
        broken = ", ".join(rail.metric.title for rail in violated)
        return result("keep", f"Keep {control}: {arm} goes beyond the guardrail on {broken}.")
    if primary.verdict == "too few":
        have = counted(primary.sample.smallest, unit) + ("" if primary.sample.paired else " in the smaller arm")
        return result(
            "not enough data",
            f"Not enough {unit}s: {have}; at least {MINIMUM_UNITS} are needed to say anything.",
        )
    if primary.verdict == "worse":
        return result("keep", f"Keep {control}: {arm} is worse on {name}{typical}.")
    if primary.verdict == "equivalent":
        return result("equivalent", f"{arm} and {control} do not differ on {name} by an amount that matters.")
    if primary.verdict != "better":
        return result("not enough data", f"Not enough data to tell {arm} from {control} on {name}: {_open(primary)}.")
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
    return result("prefer", f"Prefer {arm}: it is better than {control} on {name}{typical}{kept}.")


def _open(c: Comparison) -> str:
    """Why a difference is not shown."""
    between = span(c.deciding.low, c.deciding.high)
    if math.isinf(c.deciding.low) or math.isinf(c.deciding.high):
        return "too few have been measured for an interval"
    if not c.deciding.excludes_zero():
        return f"the difference may lie anywhere from {between}"
    if (c.estimate > 0) != (c.difference > 0):
        return f"the typical difference ({number(c.estimate)}) and the mean one ({number(c.difference)}) disagree"
    return f"the interval {between} excludes 0, but p {_p(c.p_adjusted)} after correction for several comparisons"


def _sentence(analysis: Analysis, comparison: Comparison) -> str:
    c, unit = comparison, analysis.options.unit
    says = {
        "better": "is better",
        "worse": "is worse",
        "different": "differs, which is neither good nor bad in itself",
        "equivalent": "does not differ by an amount that matters",
        "undecided": "is not shown to differ",
        "too few": f"was measured on too few {unit}s to say anything",
    }[c.verdict]
    if c.verdict == "undecided" and c.deciding.excludes_zero():
        says += f": {_open(c)}"
    return f"{c.metric.title}: {c.arm} {says}; {_numbers(analysis, c)}."


def _numbers(analysis: Analysis, c: Comparison) -> str:
    """`difference −0.2 (95 % t interval −0.3 to −0.1; paired t test, p (Holm) = 0.012; 12 clips)`."""
    options, size = analysis.options, c.sample
    what = "difference" if c.estimate == c.difference else "typical difference"
    parts = []
    if c.deciding.low == c.deciding.high:
        parts.append(f"the same on every {options.unit}")
    elif math.isfinite(c.deciding.low) and math.isfinite(c.deciding.high):
        kind = f"{100 * (1 - options.alpha):g} % {_kind(c)}"
        if options.sequential and c.sequential.low != c.confidence_sequence.low[-1]:
            kind = "always-valid interval, widened for the number of comparisons,"
        parts.append(f"{kind} {span(c.deciding.low, c.deciding.high)}")
    if not options.sequential and c.test != NONE:
        parts.append(f"{c.test}, {'p (Holm)' if c.corrected else 'uncorrected p'} {_p(c.p_adjusted)}")
    parts.append(
        counted(len(size.units), options.unit)
        if size.paired
        else f"{len(size.arm)} and {counted(len(size.control), options.unit)}"
    )
    mean = f"; the mean difference is {number(c.difference)}" if c.estimate != c.difference else ""
    return f"{what} {number(c.estimate)} ({'; '.join(parts)}){mean}"


def _kind(c: Comparison) -> str:
    if c.deciding.method == "always valid":
        return "always-valid interval"
    return c.deciding.method if c.deciding.method.endswith("interval") else f"interval ({c.deciding.method})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def rail_sentence(rail: GuardrailResult, analysis: Analysis) -> str:
    """One guardrail in words: whether it holds, and by how much."""
    unit, low, high = analysis.options.unit, rail.interval.low, rail.interval.high
    ratio = str(rail.limit).endswith("x")
    limit = f"{str(rail.limit)[:-1]} times the control" if ratio else f"{rail.limit} worse than the control"
    says = {"kept": "is kept", "violated": "is violated", "undecided": "is not settled"}[rail.verdict]
    if rail.units < MINIMUM_UNITS:
        says += f", with {counted(rail.units, unit)} of the {MINIMUM_UNITS} it needs"
    known = math.isfinite(low) and math.isfinite(high)
    if rail.excess == 0:
        size = f"{rail.arm} is exactly at the limit"
    elif rail.excess > 0:
        size = f"{rail.arm} is {number(rail.excess)} beyond the limit"
    else:
        size = f"{rail.arm} has {number(-rail.excess)} to spare"
    if known and low < high:
        between = span(low, high) if rail.excess > 0 else span(-high, -low)
        size += f" ({100 * (1 - analysis.options.alpha):g} % interval {between})"
    return f"Guardrail on {rail.metric.title} (at most {limit}) {says}: {size}."


def test_of(comparison: Comparison) -> str:
    """A p value with its name and the test it comes from, for a cell of a table."""
    c = comparison
    if c.test == NONE:
        return "no test"
    name = "p (Holm)" if c.corrected else "uncorrected p"
    return f"{name} {_p(c.p_adjusted)}, {c.test}"
