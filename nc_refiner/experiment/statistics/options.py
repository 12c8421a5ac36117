"""How an experiment is analysed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...evaluation.catalogue import Better

__all__ = ["Options"]


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
        fixed: whether it is known that the number of units was fixed before they were measured, and is reached.
        segments: unit → the segment it belongs to; units without one are in none.
        segmented_by: what makes a segment: `tag` or `folder`.
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
    fixed: bool = False
    segments: Mapping[str, str] = field(default_factory=dict)
    segmented_by: str = "folder"
