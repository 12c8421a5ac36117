"""Non-inferiority: how much worse an arm may be on the metrics it must not harm (its guardrails)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ...evaluation.catalogue import Metric
from .fixed_horizon import MINIMUM_UNITS, Interval, interval_of, sequence_of
from .samples import Sample

__all__ = ["GuardrailResult", "check_guardrail", "parse_limit"]


@dataclass(frozen=True)
class GuardrailResult:
    """One guardrail of one arm.

    Attributes:
        metric, arm, limit: what was checked; `limit` as it was given.
        excess: how far beyond the limit the arm is, in the metric's unit; below 0 is within.
        interval: of the excess.
        units: how many it was checked on; of the smaller arm.
        verdict: `kept` (the whole interval is within the limit), `violated` (the whole interval is beyond it),
            `undecided` (neither, or fewer than `MINIMUM_UNITS` units).
    """

    metric: Metric
    arm: str
    limit: str | float
    excess: float
    interval: Interval
    units: int
    verdict: Literal["kept", "violated", "undecided"]


def parse_limit(metric: str, limit: str | float) -> tuple[Literal["ratio", "absolute"], float]:
    """`"1.2x"` → `("ratio", 1.2)`; `0.01` → `("absolute", 0.01)`, by how much the arm may be worse than the control.

    Raises:
        ValueError: neither, not finite, or below 0.

    >>> parse_limit("seconds", "1.2x"), parse_limit("ssim", 0.01)
    (('ratio', 1.2), ('absolute', 0.01))
    """
    text = str(limit).strip()
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"guardrail {metric}: {limit!r} is neither a ratio such as 1.2x nor an amount such as 0.01")
    return ("ratio" if text.endswith("x") else "absolute"), value


def check_guardrail(
    sample: Sample,
    metric: Metric,
    arm: str,
    limit: str | float,
    alpha: float = 0.05,
    sequential: bool = False,
    planned: int | None = None,
) -> GuardrailResult:
    """Whether the arm stays within `limit` of the control.

    The excess is `arm − limit × control` for a ratio and `worsening − limit` for an amount; its interval, for one look
    or always valid, decides. A metric without direction is guarded against rising.

    Raises:
        ValueError: `limit` is neither a ratio nor an amount, or a ratio for a metric where higher is better.
    """
    kind, amount = parse_limit(metric.name, limit)
    sign = -1 if metric.better == "higher" else 1
    if kind == "ratio" and sign < 0:
        raise ValueError(
            f"guardrail {metric.name}: higher is better, so give the loss allowed as an amount, not a ratio"
        )
    if kind == "ratio" and metric.rate:
        raise ValueError(f"guardrail {metric.name}: a rate is limited by an amount such as 0.01, not by a ratio")
    shifted = sample.scaled(amount) if kind == "ratio" else sample
    offset = 0.0 if kind == "ratio" else amount
    if sequential:
        sequence = sequence_of(shifted, alpha, planned, metric.rate)
        found = Interval(float(sequence.low[-1]), float(sequence.high[-1]), "always valid")
    else:
        found = interval_of(shifted, alpha, metric.rate)
    low, high = sorted((sign * found.low - offset, sign * found.high - offset))
    excess = sign * shifted.difference - offset
    if sample.smallest < MINIMUM_UNITS:
        verdict: Literal["kept", "violated", "undecided"] = "undecided"
    else:
        verdict = "kept" if high <= 0 else "violated" if low > 0 else "undecided"
    return GuardrailResult(metric, arm, limit, excess, Interval(low, high, found.method), sample.smallest, verdict)
